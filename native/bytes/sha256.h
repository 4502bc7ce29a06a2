/* SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104), for proofs in hello: short messages, no speed needed. */
#ifndef KV_SHA256_H
#define KV_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_SHA256_SIZE 32u

typedef struct kv_sha256 {
    uint32_t state[8];
    uint64_t size;
    uint8_t pending[64];
} kv_sha256;

void kv_sha256_init(kv_sha256 *sha);
void kv_sha256_add(kv_sha256 *sha, const void *data, size_t size);
void kv_sha256_end(kv_sha256 *sha, uint8_t digest[KV_SHA256_SIZE]);

typedef struct kv_hmac {
    kv_sha256 inner;
    uint8_t outer_key[64];
} kv_hmac;

void kv_hmac_init(kv_hmac *hmac, const void *key, size_t key_size);
void kv_hmac_add(kv_hmac *hmac, const void *data, size_t size);
void kv_hmac_end(kv_hmac *hmac, uint8_t digest[KV_SHA256_SIZE]);
/* In time that depends on the size alone. */
bool kv_sha256_equal(const uint8_t left[KV_SHA256_SIZE], const uint8_t right[KV_SHA256_SIZE]);

#endif
