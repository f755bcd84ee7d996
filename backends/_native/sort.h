/* Sorting keys by their upper half; below stands what goes along. */

#define DIGIT_BITS 11
#define DIGITS (1 << DIGIT_BITS)
#define PASSES 3
/* Keys of a group: both places of it fit a core's cache. */
#define GROUP (1 << 13)
/* Fewer keys than that are near enough without groups: of a quarter of a million each took 8 ns with them and 4 without, of a
 * million 5 and 9. */
#define SEVERAL_GROUPS (1 << 19)
/* A group of fewer is sorted by insertion. */
#define HANDFUL 32

static inline uint32_t digit_of(uint64_t key, uint32_t least, int shift, int bits) {
    return (((uint32_t)(key >> 32) - least) >> shift) & ((1u << bits) - 1u);
}

/* To `room`, ascending by one digit, equal ones in their order; `places` are the digits' numbers, and then where each ends. */
static void move_by_digit(const uint64_t *keys, uint64_t *room, int64_t count, uint32_t least, int shift, int bits, uint32_t *places) {
    uint32_t next = 0;
    for (int digit = 0; digit < 1 << bits; digit++) {
        uint32_t here = places[digit];
        places[digit] = next;
        next += here;
    }
    for (int64_t i = 0; i < count; i++) room[places[digit_of(keys[i], least, shift, bits)]++] = keys[i];
}

/* From the lowest digit to the highest, to and fro. Whether the keys have ended up in `room`. */
static int sort_by_digits(uint64_t *keys, uint64_t *room, int64_t count) {
    uint32_t places[PASSES][DIGITS] = {{0}};
    int moved = 0;
    for (int64_t i = 0; i < count; i++)
        for (int pass = 0; pass < PASSES; pass++) places[pass][digit_of(keys[i], 0, DIGIT_BITS * pass, DIGIT_BITS)]++;
    for (int pass = 0; pass < PASSES && count; pass++) {
        /* All keys have this digit. */
        if (places[pass][digit_of(keys[0], 0, DIGIT_BITS * pass, DIGIT_BITS)] == (uint64_t)count) continue;
        move_by_digit(keys, room, count, 0, DIGIT_BITS * pass, DIGIT_BITS, places[pass]);
        uint64_t *sorted = room;
        room = keys;
        keys = sorted;
        moved = !moved;
    }
    return moved;
}

/* In place, by the lowest `bits` of what the upper half is above `least`, at most two digits: there and back. */
static void sort_group(uint64_t *keys, uint64_t *room, int64_t count, uint32_t least, int bits) {
    uint32_t places[2][DIGITS];
    int low = bits / 2, high = bits - low;
    memset(places[0], 0, sizeof(uint32_t) << low);
    memset(places[1], 0, sizeof(uint32_t) << high);
    for (int64_t i = 0; i < count; i++) {
        places[0][digit_of(keys[i], least, 0, low)]++;
        places[1][digit_of(keys[i], least, low, high)]++;
    }
    move_by_digit(keys, room, count, least, 0, low, places[0]);
    move_by_digit(room, keys, count, least, low, high, places[1]);
}

static void sort_handful(uint64_t *keys, int64_t count) {
    for (int64_t i = 1; i < count; i++) {
        uint64_t key = keys[i];
        int64_t at = i;
        for (; at > 0 && keys[at - 1] >> 32 > key >> 32; at--) keys[at] = keys[at - 1];
        keys[at] = key;
    }
}

static int bits_of(uint32_t number) {
    int bits = 0;
    for (; number; number >>= 1) bits++;
    return bits;
}

/* Ascending, equal ones in their order. Many are first put into groups by the highest digit of what they differ in. Whether they
 * have ended up in `room`. */
static int sort_by_upper_half(uint64_t *keys, uint64_t *room, int64_t count) {
    if (count < SEVERAL_GROUPS) return sort_by_digits(keys, room, count);
    uint32_t least = UINT32_MAX, most = 0, places[DIGITS] = {0};
    for (int64_t i = 0; i < count; i++) {
        uint32_t half = (uint32_t)(keys[i] >> 32);
        least = half < least ? half : least;
        most = half > most ? half : most;
    }
    if (least == most) return 0;
    int bits = bits_of(most - least), high = bits_of((uint32_t)(count / GROUP));
    high = high > DIGIT_BITS ? DIGIT_BITS : high;
    high = high < bits - 2 * DIGIT_BITS ? bits - 2 * DIGIT_BITS : high > bits ? bits : high;
    const int low = bits - high;
    for (int64_t i = 0; i < count; i++) places[digit_of(keys[i], least, low, high)]++;
    move_by_digit(keys, room, count, least, low, high, places);
    for (int64_t group = 0, start = 0; group < 1 << high; start = places[group++]) {
        int64_t here = places[group] - start;
        if (here <= HANDFUL)
            sort_handful(room + start, here);
        else
            sort_group(room + start, keys + start, here, least, low);
    }
    return 1;
}
