/* Keys, and which bytes a write sets: they derive from the key and the write, so that every byte
 * that is read can be checked. */

#include "simulator.h"

#define CROWDED_SIZE (64u << 10) /* values are to fill a device where they may be larger */

void sim_key_bytes(uint32_t key, char bytes[SIM_KEY_SIZE])
{
    bytes[0] = 'k';
    bytes[1] = 'e';
    for (uint32_t digit = 0; digit < 4; digit++, key /= 10)
        bytes[5 - digit] = (char)('0' + key % 10);
}

uint32_t sim_key_of(const void *bytes)
{
    const char *digits = bytes;
    uint32_t key = 0;

    for (uint32_t i = 2; i < SIM_KEY_SIZE; i++)
        key = key * 10 + (uint32_t)(digits[i] - '0');
    return key;
}

static uint64_t mix(const sim_world *world, uint64_t key, uint64_t write)
{
    const uint64_t words[3] = {world->options.seed, key, write};

    return kv_hash(7, words, sizeof(words));
}

/* Most are small; some fill many blocks. */
/* Mostly few bytes, unless the device is to be crowded. */
uint32_t sim_value_size(const sim_world *world, uint64_t write)
{
    uint64_t hash = mix(world, 0, write);
    bool crowded = world->options.value_size_max > CROWDED_SIZE;
    uint32_t limit = crowded || hash % 8 == 0 ? world->options.value_size_max : 600;

    if (limit > world->options.value_size_max)
        limit = world->options.value_size_max;
    return SIM_VALUE_SIZE_MIN + (uint32_t)(hash / 8 % (limit - SIM_VALUE_SIZE_MIN + 1));
}

void sim_value_fill(const sim_world *world, uint32_t key, uint64_t write, uint8_t *value)
{
    uint32_t size = sim_value_size(world, write);
    const uint64_t head[2] = {key, write};
    uint64_t word = mix(world, key, write);

    memcpy(value, head, sizeof(head));
    for (uint32_t at = sizeof(head); at < size; at += sizeof(word)) {
        uint32_t left = size - at;

        word = word * 6364136223846793005ull + 1442695040888963407ull;
        memcpy(value + at, &word, left < sizeof(word) ? left : sizeof(word));
    }
}

uint64_t sim_value_write(sim_world *world, uint32_t key, const uint8_t *value, uint32_t size)
{
    static uint8_t expected[1u << 20];
    uint64_t head[2] = {0, 0};

    if (size >= sizeof(head))
        memcpy(head, value, sizeof(head));
    if (head[0] == key && head[1] > 0 && head[1] <= world->writes &&
        sim_value_size(world, head[1]) == size) {
        sim_value_fill(world, key, head[1], expected);
        if (memcmp(value, expected, size) == 0)
            return head[1];
    }
    sim_fail(world, "key %u has %u bytes that nobody wrote (P6)", key, size);
    return 0;
}

uint64_t sim_ranges_write(sim_world *world, uint32_t key, const struct iovec *ranges,
                          uint32_t count, uint32_t size)
{
    static uint8_t value[1u << 20];
    uint32_t at = 0;

    assert(size <= sizeof(value));
    for (uint32_t i = 0; i < count && at + ranges[i].iov_len <= size; i++) {
        memcpy(value + at, ranges[i].iov_base, ranges[i].iov_len);
        at += (uint32_t)ranges[i].iov_len;
    }
    return sim_value_write(world, key, value, at);
}

static sim_version *version_place(const sim_world *world, uint64_t version, uint32_t key)
{
    const uint64_t words[2] = {version, sim_chain_of_key(world, key)};
    uint64_t hash = kv_hash(1, words, sizeof(words));

    for (uint64_t i = 0;; i++) {
        sim_version *at = &world->versions[(hash + i) & (world->version_room - 1)];

        if (at->version == 0 ||
            (at->version == version &&
             sim_chain_of_key(world, at->key) == sim_chain_of_key(world, key)))
            return at;
    }
}

static void versions_grow(sim_world *world)
{
    sim_version *old = world->versions;
    uint32_t old_room = world->version_room;

    world->version_room = old_room ? old_room * 2 : 4096;
    world->versions = calloc(world->version_room, sizeof(*old));
    assert(world->versions != NULL);
    for (uint32_t i = 0; i < old_room; i++)
        if (old[i].version != 0)
            *version_place(world, old[i].version, old[i].key) = old[i];
    free(old);
}

void sim_version_note(sim_world *world, uint32_t key, uint64_t version, uint64_t write)
{
    sim_version *at;

    if (world->version_count * 2 >= world->version_room)
        versions_grow(world);
    at = version_place(world, version, key);
    if (at->version == 0) {
        *at = (sim_version){version, write, key};
        world->version_count++;
    } else if (at->write != write || at->key != key) {
        sim_fail(world, "version %llx of chain %u is write %llu of key %u and write %llu of key %u",
                 (unsigned long long)version, sim_chain_of_key(world, key),
                 (unsigned long long)at->write, at->key, (unsigned long long)write, key);
    }
}

uint64_t sim_version_write(const sim_world *world, uint32_t key, uint64_t version)
{
    const sim_version *at;

    if (world->version_room == 0)
        return 0;
    at = version_place(world, version, key);
    return at->version == version && at->key == key ? at->write : 0;
}
