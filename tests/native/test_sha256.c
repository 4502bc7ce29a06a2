/* SHA-256 against the examples of FIPS 180-4 and HMAC against RFC 4231, in one piece and in many. */

#include "bytes/sha256.h"

#include "bytes/random.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define PIECE_ROUNDS 2000

static void expect_hex(const char *expected, const uint8_t digest[KV_SHA256_SIZE])
{
    char hex[2 * KV_SHA256_SIZE + 1];

    for (size_t i = 0; i < KV_SHA256_SIZE; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    assert(strcmp(expected, hex) == 0);
}

static void digest_of(const void *data, size_t size, uint8_t digest[KV_SHA256_SIZE])
{
    kv_sha256 sha;

    kv_sha256_init(&sha);
    kv_sha256_add(&sha, data, size);
    kv_sha256_end(&sha, digest);
}

static void expect_digest(const char *expected, const char *text)
{
    uint8_t digest[KV_SHA256_SIZE];

    digest_of(text, strlen(text), digest);
    expect_hex(expected, digest);
}

static void the_examples_of_the_standard_hold(void)
{
    expect_digest("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "");
    expect_digest("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "abc");
    expect_digest("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
                  "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq");
    expect_digest("cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
                  "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                  "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu");
}

static void a_million_letters_hold(void)
{
    uint8_t letters[1000], digest[KV_SHA256_SIZE];
    kv_sha256 sha;

    memset(letters, 'a', sizeof(letters));
    kv_sha256_init(&sha);
    for (int i = 0; i < 1000; i++)
        kv_sha256_add(&sha, letters, sizeof(letters));
    kv_sha256_end(&sha, digest);
    expect_hex("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", digest);
}

static void pieces_of_any_size_make_the_same_digest(void)
{
    uint8_t data[300], whole[KV_SHA256_SIZE], pieces[KV_SHA256_SIZE];
    kv_random random;

    kv_random_init(&random, 1);
    kv_random_fill(&random, data, sizeof(data));
    for (int round = 0; round < PIECE_ROUNDS; round++) {
        size_t size = kv_random_below(&random, sizeof(data) + 1), at = 0;
        kv_sha256 sha;

        kv_sha256_init(&sha);
        while (at < size) {
            size_t piece = kv_random_below(&random, size - at + 1);

            kv_sha256_add(&sha, data + at, piece);
            at += piece;
        }
        kv_sha256_end(&sha, pieces);
        digest_of(data, size, whole);
        assert(kv_sha256_equal(whole, pieces));
    }
}

static void expect_hmac(const char *expected, const void *key, size_t key_size, const void *data,
                        size_t size)
{
    uint8_t digest[KV_SHA256_SIZE];
    kv_hmac hmac;

    kv_hmac_init(&hmac, key, key_size);
    kv_hmac_add(&hmac, data, size / 2);
    kv_hmac_add(&hmac, (const uint8_t *)data + size / 2, size - size / 2);
    kv_hmac_end(&hmac, digest);
    expect_hex(expected, digest);
}

/* Cases 1, 2, 3, 4, 6 and 7; case 5 truncates, which nobody does here. */
static void the_cases_of_rfc_4231_hold(void)
{
    const char *large = "Test Using Larger Than Block-Size Key - Hash Key First";
    const char *larger = "This is a test using a larger than block-size key and a larger than "
                         "block-size data. The key needs to be hashed before being used by the "
                         "HMAC algorithm.";
    uint8_t key[131], data[50];

    memset(key, 0x0b, 20);
    expect_hmac("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7", key, 20,
                "Hi There", 8);
    expect_hmac("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", "Jefe", 4,
                "what do ya want for nothing?", 28);
    memset(key, 0xaa, 20);
    memset(data, 0xdd, 50);
    expect_hmac("773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe", key, 20, data,
                50);
    for (int i = 0; i < 25; i++)
        key[i] = (uint8_t)(i + 1);
    memset(data, 0xcd, 50);
    expect_hmac("82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b", key, 25, data,
                50);
    memset(key, 0xaa, 131);
    expect_hmac("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54", key, 131,
                large, strlen(large));
    expect_hmac("9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2", key, 131,
                larger, strlen(larger));
}

static void digests_that_differ_in_one_bit_are_not_equal(void)
{
    uint8_t left[KV_SHA256_SIZE] = {1, 2, 3}, right[KV_SHA256_SIZE] = {1, 2, 3};

    assert(kv_sha256_equal(left, right));
    for (size_t bit = 0; bit < KV_SHA256_SIZE * 8; bit++) {
        right[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert(!kv_sha256_equal(left, right));
        right[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

int main(void)
{
    the_examples_of_the_standard_hold();
    a_million_letters_hold();
    pieces_of_any_size_make_the_same_digest();
    the_cases_of_rfc_4231_hold();
    digests_that_differ_in_one_bit_are_not_equal();
    return 0;
}
