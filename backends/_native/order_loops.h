/* Loops that order pixels, and that go along ordered ones. See loops.h. */

/* The upper half of a key that ascends as x descends; both zeros are equal. */
static inline uint64_t NAMED(descending)(float x) {
    float number = x + 0.0f;
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    uint32_t rising = (uint32_t)((int32_t)bits >> 31);
    return (uint64_t)(bits ^ (~rising & 0x7FFFFFFFu)) << 32;
}

/* Keys that ascend as x descends, equal ones by their place, which is the lower half. */
static void NAMED(descending_keys)(const float *x, uint64_t *keys, int64_t count) {
    for (int64_t i = 0; i < count; i++) keys[i] = NAMED(descending)(x[i]) | (uint32_t)i;
}

/* The same with a mark in the lowest bit, below the place. */
static void NAMED(marked_keys)(const float *x, const uint8_t *marks, uint64_t *keys, int64_t count) {
    for (int64_t i = 0; i < count; i++) keys[i] = NAMED(descending)(x[i]) | (uint32_t)i << 1 | marks[i];
}

/* Along sorted keys with the foreground as marks, the steps of the Jaccard loss, each at its own pixel. How many keys name no
 * pixel. */
static int64_t NAMED(jaccard_steps)(const uint64_t *keys, float *steps, int64_t pixels) {
    int64_t whole = 0, found = 0, wrong = 0;
    for (int64_t i = 0; i < pixels; i++) whole += (int64_t)(keys[i] & 1);
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        int32_t hit[BLOCK], background[BLOCK];
        float left[BLOCK], step[BLOCK];
        for (int i = 0; i < count; i++) hit[i] = (int32_t)(keys[start + i] & 1);
        for (int i = 0; i < count; i++) {
            found += hit[i];
            left[i] = (float)(whole - found);
            background[i] = (int32_t)(start + i + 1 - found);
        }
        for (int i = 0; i < count; i++) {
            float all = (float)((int32_t)whole + background[i]);
            float before = all - 1.0f < 1.0f ? 1.0f : all - 1.0f, quotient = left[i] / before;
            step[i] = (hit[i] ? 1.0f : quotient) / all;
        }
        /* Without foreground the loss jumps to 1 at the first pixel. */
        if (start == 0 && whole == 0) step[0] = 1.0f;
        for (int i = 0; i < count; i++) {
            int64_t place = (int64_t)((uint32_t)keys[start + i] >> 1);
            if (place < pixels)
                steps[place] = step[i];
            else
                wrong++;
        }
    }
    return wrong;
}
