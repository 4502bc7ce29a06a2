#include "bytes/random.h"

#include <string.h>

static void seed_zero_begins_as_published(void)
{
    kv_random random;

    kv_random_init(&random, 0);

    assert(kv_random_next(&random) == 0x99EC5F36CB75F2B4u);
}

static void the_same_seed_gives_the_same_numbers(void)
{
    kv_random one, other, third;
    bool differs = false;

    kv_random_init(&one, 7);
    kv_random_init(&other, 7);
    kv_random_init(&third, 8);

    for (int i = 0; i < 1000; i++) {
        uint64_t number = kv_random_next(&one);

        assert(number == kv_random_next(&other));
        differs = differs || number != kv_random_next(&third);
    }
    assert(differs);
}

static void below_reaches_every_number_and_no_other(void)
{
    kv_random random;
    int seen[7] = {0};

    kv_random_init(&random, 1);
    for (int i = 0; i < 7000; i++) {
        uint64_t number = kv_random_below(&random, 7);

        assert(number < 7);
        seen[number]++;
    }

    for (int i = 0; i < 7; i++)
        assert(seen[i] > 800 && seen[i] < 1200);
    assert(kv_random_below(&random, 1) == 0);
    assert(kv_random_one_in(&random, 1));
}

static void fill_writes_exactly_its_bytes(void)
{
    kv_random random;
    uint8_t bytes[16];

    for (size_t size = 0; size <= 13; size++) {
        uint8_t untouched[16] = {0};

        memset(bytes, 0, sizeof(bytes));
        kv_random_init(&random, size);
        kv_random_fill(&random, bytes, size);
        assert(memcmp(bytes + size, untouched, sizeof(bytes) - size) == 0);
    }
    assert(memcmp(bytes, (uint8_t[8]){0}, 8) != 0);
}

int main(void)
{
    seed_zero_begins_as_published();
    the_same_seed_gives_the_same_numbers();
    below_reaches_every_number_and_no_other();
    fill_writes_exactly_its_bytes();
}
