/* Sorting keys by their upper half. */

#define DIGIT_BITS 11
#define DIGITS (1 << DIGIT_BITS)
#define PASSES 3

static inline int digit_of(uint64_t key, int pass) { return (int)(key >> (32 + DIGIT_BITS * pass)) & (DIGITS - 1); }

/* Ascending, equal ones in their order; from the lowest digit to the highest, to and fro between two places. Whether they have
 * ended up in `room`. */
static int sort_by_upper_half(uint64_t *keys, uint64_t *room, int64_t count) {
    uint32_t counts[PASSES][DIGITS] = {{0}};
    int moved = 0;
    for (int64_t i = 0; i < count; i++)
        for (int pass = 0; pass < PASSES; pass++) counts[pass][digit_of(keys[i], pass)]++;
    for (int pass = 0; pass < PASSES && count; pass++) {
        uint32_t *places = counts[pass], next = 0;
        /* All keys have this digit. */
        if (places[digit_of(keys[0], pass)] == (uint64_t)count) continue;
        for (int digit = 0; digit < DIGITS; digit++) {
            uint32_t here = places[digit];
            places[digit] = next;
            next += here;
        }
        for (int64_t i = 0; i < count; i++) room[places[digit_of(keys[i], pass)]++] = keys[i];
        uint64_t *sorted = room;
        room = keys;
        keys = sorted;
        moved = !moved;
    }
    return moved;
}
