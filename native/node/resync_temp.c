#include "node/resync.h"
int kv_resync_open(kv_chain *chain, kv_resync **resync){(void)chain;(void)resync;return 0;}
void kv_resync_close(kv_resync *resync){(void)resync;}
void kv_resync_look(kv_resync *resync){(void)resync;}
void kv_resync_state(kv_resync *resync, kv_chain_state *state){(void)resync;(void)state;}
void kv_sync_look(kv_sync_batch *batch){(void)batch;}
void kv_sync_ended(kv_sync_batch *batch, kv_status status){(void)batch;(void)status;}
const kv_request *kv_sync_request(const kv_sync_batch *batch){(void)batch;return 0;}
kv_operation *kv_sync_operation(const kv_sync_batch *batch){(void)batch;return 0;}
