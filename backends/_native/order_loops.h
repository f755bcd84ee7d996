/* Loops that find the errors of pixels, that order pixels by them, and that go along ordered ones. See loops.h. */

/* How many keys before its turn a pixel's place is fetched, if there are more pixels than a cache holds. Of eight million, in two
 * threads, each then takes 3.9 ns and not 6.4; of half a million 2.7 and not 2.6. */
#ifndef AHEAD
#define AHEAD 128
#define MANY_PIXELS (1 << 20)
#endif

/* From the bits of a number to a key, and back. */
static inline uint32_t NAMED(turned)(uint32_t bits) {
    uint32_t rising = (uint32_t)((int32_t)bits >> 31);
    return bits ^ (~rising & 0x7FFFFFFFu);
}

/* Ascends as x descends; NaN comes first. */
static inline uint32_t NAMED(descending)(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return x != x ? 0 : NAMED(turned)(bits);
}

/* The number that this is the key of. */
static inline float NAMED(of_descending)(uint32_t key) {
    uint32_t bits = NAMED(turned)(key);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The k-th largest number, k from 1 to `count`; NaN is larger than all. Digit by digit of its key, from the highest: how many keys
 * that begin as it does have which digit next. */
static float NAMED(kth_largest)(const float *x, int64_t k, int64_t count) {
    /* The last digit begins with the bit that the one before it ends with. */
    static const int shifts[] = {32 - DIGIT_BITS, 32 - 2 * DIGIT_BITS, 0};
    uint32_t begin = 0, mask = 0;
    for (int pass = 0; pass < 3; pass++) {
        /* Two counters for each digit: neighbours are often alike, and one would wait for the other. */
        uint32_t counts[2][DIGITS] = {{0}};
        const int shift = shifts[pass];
        const uint32_t digits = DIGITS - 1;
        for (int64_t start = 0; start < count; start += BLOCK) {
            int here = (int)(count - start < BLOCK ? count - start : BLOCK);
            uint32_t key[BLOCK];
            for (int i = 0; i < here; i++) key[i] = NAMED(descending)(x[start + i]);
            for (int i = 0; i < here; i++)
                if ((key[i] & mask) == begin) counts[i & 1][key[i] >> shift & digits]++;
        }
        uint32_t digit = 0;
        for (; digit < digits; digit++) {
            int64_t of_digit = (int64_t)counts[0][digit] + counts[1][digit];
            if (k <= of_digit) break;
            k -= of_digit;
        }
        begin |= digit << shift;
        mask |= digits << shift;
    }
    return NAMED(of_descending)(begin);
}

/* How many errors are marked, and the key of the smallest of these; of all errors, the key of the largest. */
static int64_t NAMED(marked_errors)(const float *errors, const uint8_t *marks, uint32_t *smallest_marked, uint32_t *largest,
                                    int64_t pixels) {
    int64_t marked = 0;
    *smallest_marked = 0;
    *largest = UINT32_MAX;
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        /* Loops of one thing each: a compiler makes vectors of these. */
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        uint32_t key[BLOCK], mark[BLOCK], here = 0, last = 0, first = UINT32_MAX;
        for (int i = 0; i < count; i++) key[i] = NAMED(descending)(errors[start + i]);
        for (int i = 0; i < count; i++) mark[i] = marks[start + i];
        for (int i = 0; i < count; i++) here += mark[i];
        for (int i = 0; i < count; i++) first = key[i] < first ? key[i] : first;
        for (int i = 0; i < count; i++) {
            uint32_t of_marked = mark[i] ? key[i] : 0;
            last = of_marked > last ? of_marked : last;
        }
        marked += here;
        *smallest_marked = last > *smallest_marked ? last : *smallest_marked;
        *largest = first < *largest ? first : *largest;
    }
    return marked;
}

/* Keys of the pixels that weigh, and how many they are: in the upper half they ascend as errors descend, below stand the
 * place and, in the lowest bit, the mark.
 *
 * Errors that are not above 0 weigh nothing. Nor does a pixel after the last marked one, since there nothing of the
 * intersection is left to lose; of pixels without any mark, only the first weighs.
 */
static int64_t NAMED(jaccard_keys)(const float *errors, const uint8_t *marks, uint64_t *keys, int64_t *marked, int64_t pixels) {
    int64_t kept = 0;
    uint32_t last, largest, zero = NAMED(descending)(0.0f);
    *marked = NAMED(marked_errors)(errors, marks, &last, &largest, pixels);
    last = *marked ? last : largest;
    last = last < zero ? last : zero - 1;
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK), here = 0;
        uint32_t key[BLOCK], weighs[BLOCK];
        for (int i = 0; i < count; i++) {
            key[i] = NAMED(descending)(errors[start + i]);
            weighs[i] = key[i] <= last;
            here += (int)weighs[i];
        }
        if (!here) continue;
        for (int i = 0; i < count; i++) {
            keys[kept] = (uint64_t)key[i] << 32 | (uint32_t)(start + i) << 1 | marks[start + i];
            kept += weighs[i];
        }
    }
    return kept;
}

/* Along the sorted keys, the steps of the Jaccard loss: the sum of each times its error, and each, times `scale`, at its own
 * pixel of `slopes`, turned round where there is a mark; 0 at pixels without a key. `wrong` is how many keys name no pixel. */
static double NAMED(lovasz)(const uint64_t *keys, int64_t kept, int64_t marked, float scale, float *slopes, int64_t pixels,
                            int64_t *wrong) {
    const int64_t fetched = pixels < MANY_PIXELS ? 0 : kept - AHEAD;
    int64_t found = 0;
    double total = 0.0;
    memset(slopes, 0, (size_t)pixels * sizeof(float));
    for (int64_t start = 0; start < kept; start += BLOCK) {
        int count = (int)(kept - start < BLOCK ? kept - start : BLOCK);
        int32_t hit[BLOCK], background[BLOCK];
        float left[BLOCK], step[BLOCK], term[BLOCK];
        for (int i = 0; i < count; i++) hit[i] = (int32_t)(keys[start + i] & 1);
        for (int i = 0; i < count; i++) {
            found += hit[i];
            left[i] = (float)(marked - found);
            background[i] = (int32_t)(start + i + 1 - found);
        }
        for (int i = 0; i < count; i++) {
            float all = (float)((int32_t)marked + background[i]);
            float before = all - 1.0f < 1.0f ? 1.0f : all - 1.0f, quotient = left[i] / before;
            step[i] = (hit[i] ? 1.0f : quotient) / all;
        }
        /* Without foreground the loss jumps to 1 at the first pixel. */
        if (start == 0 && marked == 0) step[0] = 1.0f;
        for (int i = 0; i < count; i++) term[i] = step[i] * NAMED(of_descending)((uint32_t)(keys[start + i] >> 32));
        for (int i = 0; i < count; i++) {
            if (start + i < fetched) TO_BE_WRITTEN(&slopes[(uint32_t)keys[start + i + AHEAD] >> 1]);
            int64_t place = (int64_t)((uint32_t)keys[start + i] >> 1);
            if (place < pixels)
                slopes[place] = (hit[i] ? -step[i] : step[i]) * scale;
            else
                ++*wrong;
        }
        total += NAMED(sum)(term, count);
    }
    return total;
}

/* |mark - softmax| of one class at valid pixels, 0 at others; marks are the valid pixels of that class. */
static void NAMED(class_errors)(const float *x, const float *top, const float *norm, const int32_t *index, const uint8_t *valid,
                                int32_t number, float *errors, uint8_t *marks, int64_t pixels) {
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        int32_t counts[BLOCK], mark[BLOCK];
        for (int i = 0; i < count; i++) counts[i] = valid[start + i];
        for (int i = 0; i < count; i++) {
            mark[i] = (index[start + i] == number) & counts[i];
            float away = NAMED(exp)(x[start + i] - top[start + i]) / norm[start + i];
            away = mark[i] ? 1.0f - away : away;
            away = away < 0.0f ? -away : away;
            errors[start + i] = counts[i] ? away : 0.0f;
        }
        for (int i = 0; i < count; i++) marks[start + i] = (uint8_t)mark[i];
    }
}

/* max(0, 1 -+ score) at valid pixels, - for class 1, 0 at others; marks are the valid pixels of class 1. */
static void NAMED(hinge_errors)(const float *score, const int32_t *index, const uint8_t *valid, float *errors, uint8_t *marks,
                                int64_t pixels) {
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        int32_t counts[BLOCK], mark[BLOCK];
        for (int i = 0; i < count; i++) counts[i] = valid[start + i];
        for (int i = 0; i < count; i++) {
            mark[i] = (index[start + i] == 1) & counts[i];
            float error = 1.0f - (mark[i] ? score[start + i] : -score[start + i]);
            error = error < 0.0f ? 0.0f : error; /* NaN stays */
            errors[start + i] = counts[i] ? error : 0.0f;
        }
        for (int i = 0; i < count; i++) marks[start + i] = (uint8_t)mark[i];
    }
}
