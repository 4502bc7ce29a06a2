/* The chain protocol at one target, by transcripts: events in, exact effects out.
 *
 * tests/scenarios/replica/ holds them. A line that begins with "# " opens a scenario with a new
 * replica, and says its rule; further such lines go on saying it. Every other line is an event,
 * and the indented lines below it are what comes of it, in order:
 *
 *   view VERSION [serves|syncs] [head] [next TARGET [syncing]]   view none
 *   client NAME VERSION KEY...        peer NAME VERSION.ATTEMPT OBJECT-VERSION KEY...
 *   move NAME VERSION.ATTEMPT OBJECT-VERSION KEY...
 *   sync NAME KEY...                  decided NAME [careful] [KEY!STATUS...] [as STATUS]
 *   applied NAME                      acked NAME VERSION.ATTEMPT [KEY!STATUS...]
 *   severed                           withdraw NAME STATUS
 *   dirty KEY   counts   settled N   all-settled   admits SOURCE VERSION   forwards NAME VERSION.ATTEMPT
 *
 * An event behind "& " is followed by the next one before its effects are taken.
 *
 * A key is a word; KEY!STATUS is an item that was refused. Versions of objects are chain version
 * and sequence, as 5.1. After each event the invariants are checked; a scenario ends with leaving
 * the chain, after which nothing is left. */

#include "engine/engine.h"
#include "protocol/replica.h"

#include <assert.h>
#include <inttypes.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UPDATES_MAX 32u
#define KEYS_MAX 8u
#define WORDS_MAX 16u
#define TEXT_SIZE 4096u
#define PLACES 4u /* few, so that keys meet there */

typedef struct subject {
    char name[16];
    kv_update update;
    kv_update_key keys[KEYS_MAX];
    char key_bytes[KEYS_MAX][16];
    uint8_t statuses[KEYS_MAX];
    bool applying; /* taken, and not told yet */
    bool deciding;
    bool over;
} subject;

typedef struct script {
    const char *path;
    int line;
    kv_replica *replica;
    subject subjects[UPDATES_MAX];
    uint32_t subject_count;
    char words[WORDS_MAX][32];
    uint32_t word_count;
    bool together; /* with the event that follows */
    char came[TEXT_SIZE]; /* what came of the event */
} script;

static const char *const status_names[] = {
    [KV_OK] = "OK", [KV_EXISTS] = "EXISTS", [KV_NOT_FOUND] = "NOT_FOUND",
    [KV_NO_SPACE] = "NO_SPACE", [KV_UNAVAILABLE] = "UNAVAILABLE", [KV_TIMEOUT] = "TIMEOUT",
    [KV_CANCELLED] = "CANCELLED", [KV_OUTCOME_UNKNOWN] = "OUTCOME_UNKNOWN",
    [KV_WRONG_TARGET] = "WRONG_TARGET", [KV_BUSY] = "BUSY",
};
#define STATUS_COUNT (sizeof(status_names) / sizeof(status_names[0]))

static void fail(const script *all, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", all->path, all->line, what);
    abort();
}

__attribute__((format(printf, 2, 3))) static void say(script *all, const char *format, ...)
{
    size_t used = strlen(all->came);
    va_list arguments;
    int size;

    va_start(arguments, format);
    size = vsnprintf(all->came + used, TEXT_SIZE - used, format, arguments);
    va_end(arguments);
    if (size < 0 || (size_t)size >= TEXT_SIZE - used)
        fail(all, "too much comes of it");
}

static kv_status status_read(const script *all, const char *name)
{
    for (size_t i = 0; i < STATUS_COUNT; i++)
        if (status_names[i] && strcmp(status_names[i], name) == 0)
            return (kv_status)i;
    fail(all, "no such status");
    return KV_OK;
}

static const char *word(const script *all, uint32_t i)
{
    if (i >= all->word_count)
        fail(all, "a word is missing");
    return all->words[i];
}

static bool said(const script *all, uint32_t i, const char *text)
{
    return i < all->word_count && strcmp(all->words[i], text) == 0;
}

static void pair_read(const char *text, uint64_t *a, uint64_t *b)
{
    char *end;

    *a = strtoull(text, &end, 10);
    *b = *end == '.' ? strtoull(end + 1, NULL, 10) : 0;
}

static subject *subject_of(script *all, const char *name)
{
    for (uint32_t i = 0; i < all->subject_count; i++)
        if (strcmp(all->subjects[i].name, name) == 0)
            return &all->subjects[i];
    fail(all, "no such update");
    return NULL;
}

static subject *subject_of_update(script *all, const kv_update *update)
{
    for (uint32_t i = 0; i < all->subject_count; i++)
        if (&all->subjects[i].update == update)
            return &all->subjects[i];
    fail(all, "an effect of no update");
    return NULL;
}

static uint64_t hash_of(const char *key)
{
    return (uint64_t)(uint8_t)key[0] % 8;
}

/* A key that was refused has its status behind it. */
static void key_read(script *all, subject *one, const char *text)
{
    uint32_t i = one->update.count++;
    const char *mark = strchr(text, '!');
    size_t size = mark ? (size_t)(mark - text) : strlen(text);

    assert(i < KEYS_MAX && size < sizeof(one->key_bytes[0]));
    memcpy(one->key_bytes[i], text, size);
    one->keys[i].key = (const uint8_t *)one->key_bytes[i];
    one->keys[i].key_size = (uint32_t)size;
    one->keys[i].hash = hash_of(text);
    one->statuses[i] = mark ? (uint8_t)status_read(all, mark + 1) : KV_OK;
}

static void statuses_read(script *all, const subject *one, uint32_t from, uint8_t *statuses)
{
    for (uint32_t at = from; at < all->word_count; at++) {
        char *mark = strchr(all->words[at], '!');
        bool found = false;

        if (!mark)
            continue;
        *mark = '\0';
        for (uint32_t i = 0; i < one->update.count; i++)
            if (strcmp(one->key_bytes[i], all->words[at]) == 0) {
                statuses[i] = (uint8_t)status_read(all, mark + 1);
                found = true;
            }
        if (!found)
            fail(all, "no such key in it");
    }
}

static void end_say(script *all, const subject *one)
{
    say(all, " ");
    say(all, "%s", status_names[one->update.status]);
    for (uint32_t i = 0; one->update.status == KV_OK && i < one->update.count; i++) {
        say(all, " ");
        say(all, "%s", one->key_bytes[i]);
        if (one->statuses[i] != KV_OK) {
            say(all, "!");
            say(all, "%s", status_names[one->statuses[i]]);
        }
    }
}

static void effects_say(script *all, subject *one, uint32_t effects)
{
    const kv_update *update = &one->update;

    say(all, "    %s:", one->name);
    if (effects & KV_EFFECT_DECIDE)
        say(all, " decide");
    if (effects & KV_EFFECT_APPLY)
        say(all, " apply as %" PRIu64 ".%" PRIu64, update->version >> KV_VERSION_SEQUENCE_BITS,
            update->version & ((UINT64_C(1) << KV_VERSION_SEQUENCE_BITS) - 1));
    if (effects & KV_EFFECT_FORWARD)
        say(all, "%s forward%s to %u in %" PRIu64 ".%u", effects & KV_EFFECT_APPLY ? "," : "",
            update->careful ? " carefully" : "", update->successor, update->forward_version,
            update->forward_attempt);
    if (effects & KV_EFFECT_END)
        end_say(all, one);
    say(all, "\n");
}

static void effects_take(script *all)
{
    kv_update *update;
    uint32_t effects;

    while ((update = kv_replica_next(all->replica, &effects))) {
        subject *one = subject_of_update(all, update);

        assert(!one->over);
        assert((effects & KV_EFFECT_DECIDE) == 0 || effects == KV_EFFECT_DECIDE);
        assert((effects & KV_EFFECT_END) == 0 || effects == KV_EFFECT_END);
        one->deciding = one->deciding || (effects & KV_EFFECT_DECIDE);
        one->applying = one->applying || (effects & KV_EFFECT_APPLY);
        one->over = (effects & KV_EFFECT_END) != 0;
        if (one->over)
            one->deciding = one->applying = false;
        effects_say(all, one, effects);
    }
}

/* 0: no source. */
static kv_update_source source_of(const char *name)
{
    return strcmp(name, "client") == 0 ? KV_UPDATE_CLIENT
           : strcmp(name, "peer") == 0 ? KV_UPDATE_PEER
           : strcmp(name, "move") == 0 ? KV_UPDATE_MOVE
           : strcmp(name, "sync") == 0 ? KV_UPDATE_SYNC
                                       : (kv_update_source)0;
}

static void view_event(script *all)
{
    kv_replica_view view = {.chain_version = strtoull(word(all, 1), NULL, 10)};

    for (uint32_t i = 2; i < all->word_count; i++) {
        view.serves = view.serves || said(all, i, "serves");
        view.syncs = view.syncs || said(all, i, "syncs");
        view.head = view.head || said(all, i, "head");
        view.successor_syncs = view.successor_syncs || said(all, i, "syncing");
        if (said(all, i, "next")) {
            view.has_successor = true;
            view.successor = (uint32_t)strtoul(word(all, i + 1), NULL, 10);
        }
    }
    if (!kv_replica_configure(all->replica, &view))
        say(all, "    passed over\n");
}

static void came_event(script *all, kv_update_source source)
{
    subject *one = &all->subjects[all->subject_count++];
    uint32_t from = source == KV_UPDATE_CLIENT ? 3 : source == KV_UPDATE_SYNC ? 2 : 4;
    uint64_t a = 0, b = 0;

    assert(all->subject_count <= UPDATES_MAX);
    memset(one, 0, sizeof(*one));
    snprintf(one->name, sizeof(one->name), "%.15s", word(all, 1));
    one->update = (kv_update){.source = source, .keys = one->keys, .statuses = one->statuses};
    if (source != KV_UPDATE_SYNC)
        pair_read(word(all, 2), &a, &b);
    one->update.chain_version = a;
    one->update.attempt = (uint32_t)b;
    if (from == 4) {
        pair_read(word(all, 3), &a, &b);
        one->update.version = kv_version(a, b);
    }
    for (uint32_t i = from; i < all->word_count; i++)
        key_read(all, one, all->words[i]);
    kv_replica_came(all->replica, &one->update);
}

static void decided_event(script *all)
{
    subject *one = subject_of(all, word(all, 1));
    kv_status status = KV_OK;

    if (!one->deciding)
        fail(all, "it is not to be decided");
    one->deciding = false;
    one->update.careful = said(all, 2, "careful");
    for (uint32_t i = 2; i < all->word_count; i++)
        if (said(all, i, "as"))
            status = status_read(all, word(all, i + 1));
    statuses_read(all, one, 2, one->statuses);
    kv_replica_decided(all->replica, &one->update, status);
}

static void applied_event(script *all)
{
    subject *one = subject_of(all, word(all, 1));

    if (!one->applying)
        fail(all, "it is not being applied");
    one->applying = false;
    kv_replica_applied(all->replica, &one->update);
}

static void acked_event(script *all)
{
    subject *one = subject_of(all, word(all, 1));
    uint8_t statuses[KEYS_MAX] = {KV_OK};
    uint64_t version, attempt;

    if (one->over)
        fail(all, "it is over");
    pair_read(word(all, 2), &version, &attempt);
    statuses_read(all, one, 3, statuses);
    if (!kv_replica_acknowledged(all->replica, &one->update, version, (uint32_t)attempt,
                                 all->word_count > 3 ? statuses : NULL))
        say(all, "    breaks the protocol\n");
}

static void answer(script *all, bool yes)
{
    say(all, yes ? "    yes\n" : "    no\n");
}

static void questions(script *all)
{
    const char *event = word(all, 0);
    const char *first = all->word_count > 1 ? all->words[1] : "";
    uint64_t a, b;

    if (strcmp(event, "dirty") == 0) {
        answer(all, kv_replica_is_dirty(all->replica, (const uint8_t *)first,
                                        (uint32_t)strlen(first), hash_of(first)));
    } else if (strcmp(event, "settled") == 0) {
        answer(all, kv_replica_settled(all->replica, strtoull(first, NULL, 10)));
    } else if (strcmp(event, "all-settled") == 0) {
        answer(all, kv_replica_is_settled(all->replica));
    } else if (strcmp(event, "counts") == 0) {
        say(all, "    %u in it, %" PRIu64 " turns, %" PRIu64 " given up\n",
            kv_replica_count(all->replica), kv_replica_turns(all->replica),
            kv_replica_given_up(all->replica));
    } else if (strcmp(event, "admits") == 0) {
        a = strtoull(word(all, 2), NULL, 10);
        say(all, "    %s\n", status_names[kv_replica_admits(all->replica, source_of(first), a)]);
    } else if (strcmp(event, "forwards") == 0) {
        pair_read(word(all, 2), &a, &b);
        answer(all, kv_replica_forwards(&subject_of(all, first)->update, a, (uint32_t)b));
    } else {
        fail(all, "no such event");
    }
}

static void event(script *all)
{
    if (said(all, 0, "view"))
        view_event(all);
    else if (source_of(word(all, 0)) != 0)
        came_event(all, source_of(word(all, 0)));
    else if (said(all, 0, "decided"))
        decided_event(all);
    else if (said(all, 0, "applied"))
        applied_event(all);
    else if (said(all, 0, "acked"))
        acked_event(all);
    else if (said(all, 0, "severed"))
        kv_replica_severed(all->replica);
    else if (!said(all, 0, "withdraw"))
        questions(all);
    else if (!kv_replica_withdraw(all->replica, &subject_of(all, word(all, 1))->update,
                                  status_read(all, word(all, 2))))
        say(all, "    too late\n");
    kv_replica_invariants(all->replica);
    if (!all->together)
        effects_take(all);
    kv_replica_invariants(all->replica);
}

static void words_read(script *all, char *line)
{
    all->together = strncmp(line, "& ", 2) == 0;
    all->word_count = 0;
    if (all->together)
        line += 2;
    for (char *at = strtok(line, " \n"); at; at = strtok(NULL, " \n")) {
        assert(all->word_count < WORDS_MAX);
        snprintf(all->words[all->word_count++], sizeof(all->words[0]), "%.31s", at);
    }
}

/* Leave the chain: what is being decided or applied ends when that is over, everything else at
 * once. */
static void scenario_close(script *all)
{
    kv_replica_view none = {0};

    if (!all->replica)
        return;
    assert(kv_replica_configure(all->replica, &none));
    effects_take(all);
    for (uint32_t i = 0; i < all->subject_count; i++) {
        subject *one = &all->subjects[i];

        if (one->deciding)
            kv_replica_decided(all->replica, &one->update, KV_OK);
        if (one->applying)
            kv_replica_applied(all->replica, &one->update);
        effects_take(all);
        kv_replica_invariants(all->replica);
        if (!one->over)
            fail(all, "an update did not end");
    }
    assert(kv_replica_count(all->replica) == 0);
    kv_replica_close(all->replica);
    all->replica = NULL;
    all->subject_count = 0;
}

static void expect(script *all, const char *wanted)
{
    if (strcmp(all->came, wanted) == 0)
        return;
    fprintf(stderr, "expected:\n%scame:\n%s", wanted, all->came);
    fail(all, "something else came of it");
}

/* Lines that are indented belong to the event above them. */
static void script_run(const char *path)
{
    static script all;
    char line[512], wanted[TEXT_SIZE] = "";
    FILE *file = fopen(path, "r");
    bool titled = false;

    assert(file != NULL);
    memset(&all, 0, sizeof(all));
    all.path = path;
    for (int number = 1; fgets(line, sizeof(line), file); number++) {
        if (strncmp(line, "    ", 4) == 0) {
            strcat(wanted, line);
            continue;
        }
        expect(&all, wanted);
        wanted[0] = all.came[0] = '\0';
        all.line = number;
        if (line[0] == '#' && !titled) {
            scenario_close(&all);
            all.came[0] = '\0';
            assert(kv_replica_open(PLACES, &all.replica) == 0);
        }
        titled = line[0] == '#';
        if (titled || line[0] == '\n')
            continue;
        words_read(&all, line);
        event(&all);
    }
    expect(&all, wanted);
    scenario_close(&all);
    fclose(file);
}

static void transcripts_come_out_as_written(void)
{
    DIR *folder = opendir(KV_SCENARIOS "/replica");
    struct dirent *entry;
    uint32_t count = 0;

    assert(folder != NULL);
    while ((entry = readdir(folder))) {
        char path[1024];

        if (!strstr(entry->d_name, ".txt"))
            continue;
        snprintf(path, sizeof(path), "%s/%s", KV_SCENARIOS "/replica", entry->d_name);
        script_run(path);
        count++;
    }
    closedir(folder);
    assert(count > 0);
}

static void sizes_of_the_table_are_powers_of_two(void)
{
    static const uint32_t wrong[] = {0, 3, KV_REPLICA_PLACES_MAX + 1, 2 * KV_REPLICA_PLACES_MAX};
    kv_replica *replica;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert(kv_replica_open(wrong[i], &replica) == -EINVAL);
    assert(kv_replica_open(KV_REPLICA_PLACES_MAX, &replica) == 0);
    assert(kv_replica_count(replica) == 0);
    kv_replica_close(replica);
}

int main(void)
{
    sizes_of_the_table_are_powers_of_two();
    transcripts_come_out_as_written();
    return 0;
}
