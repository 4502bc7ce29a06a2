#include "engine/slab.h"

#include <assert.h>

static void a_size_gets_the_smallest_class_that_holds_it(void)
{
    for (uint32_t size = 1; size <= 8u << 20; size += size < 1u << 16 ? 1 : 61) {
        uint32_t class = kv_slab_class_of(size);

        assert(kv_slab_class_size(class) >= size);
        assert(class == 0 || kv_slab_class_size(class - 1) < size);
    }
}

static void rounding_up_wastes_at_most_an_eighth(void)
{
    for (uint32_t size = 64; size <= 8u << 20; size += size < 1u << 16 ? 1 : 61) {
        uint32_t waste = kv_slab_class_size(kv_slab_class_of(size)) - size;

        assert(size <= 512 ? waste < 64 : waste * 8 <= size);
    }
}

static void classes_grow_and_end_at_8_mib(void)
{
    uint32_t class = 0;

    for (; kv_slab_class_size(class + 1) != 0; class++)
        assert(kv_slab_class_size(class) < kv_slab_class_size(class + 1));
    assert(kv_slab_class_size(class) == 8u << 20);
    assert(kv_slab_class_of(8u << 20) == class);
    assert(kv_slab_class_of((8u << 20) + 1) == KV_SLAB_CLASS_NONE);
    assert(kv_slab_class_size(KV_SLAB_CLASS_NONE) == 0);
    assert(kv_slab_class_size(KV_SLAB_CLASS_PACK) == 0);
}

static void multiples_of_4096_round_up_to_classes_that_are_multiples_too(void)
{
    for (uint32_t size = 4096; size <= 8u << 20; size += 4096)
        assert(kv_slab_class_size(kv_slab_class_of(size)) % 4096 == 0);
}

int main(void)
{
    a_size_gets_the_smallest_class_that_holds_it();
    rounding_up_wastes_at_most_an_eighth();
    classes_grow_and_end_at_8_mib();
    multiples_of_4096_round_up_to_classes_that_are_multiples_too();
}
