/* Functions of one number. See loops.h. */

/* exp(x) for x <= 0, within one ulp; NaN stays NaN. 2^n is two factors, so that denormal results come out right. */
static inline float NAMED(exp)(float x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to an integer */
    x = x < -105.0f ? -105.0f : x;
    float shifted = x * 1.44269504088896341f + magic;
    float n = shifted - magic;
    /* ln 2 in two parts, the first with so few digits that n times it is exact. */
    float r = x - n * 0.693145751953125f;
    r = r - n * 1.428606765330187e-06f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    int32_t whole = bits - 0x4B400000, half = whole >> 1;
    int32_t first_bits = (int32_t)((uint32_t)(half + 127) << 23);
    int32_t second_bits = (int32_t)((uint32_t)(whole - half + 127) << 23);
    float first, second;
    memcpy(&first, &first_bits, sizeof first);
    memcpy(&second, &second_bits, sizeof second);
    return p * first * second;
}

/* log(1 + e) for e in [0, 1]: 2 artanh(e / (2 + e)), a series in the square of a number that is at most 1/3. */
static inline float NAMED(log1p)(float e) {
    float s = e / (2.0f + e), q = s * s;
    float p = 1.0f / 13.0f;
    p = p * q + 1.0f / 11.0f;
    p = p * q + 1.0f / 9.0f;
    p = p * q + 1.0f / 7.0f;
    p = p * q + 1.0f / 5.0f;
    p = p * q + 1.0f / 3.0f;
    return 2.0f * s + 2.0f * s * q * p;
}

/* log(x) for finite x >= 1: the same series for the fraction, in [1/sqrt 2, sqrt 2), and n times ln 2. */
static inline float NAMED(log)(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int32_t n = (bits - 0x3F3504F3) >> 23;
    int32_t fraction_bits = bits - (int32_t)((uint32_t)n << 23);
    float fraction;
    memcpy(&fraction, &fraction_bits, sizeof fraction);
    float s = (fraction - 1.0f) / (fraction + 1.0f), q = s * s, whole = (float)n;
    float p = 1.0f / 9.0f;
    p = p * q + 1.0f / 7.0f;
    p = p * q + 1.0f / 5.0f;
    p = p * q + 1.0f / 3.0f;
    float found = whole * 0.693145751953125f + (2.0f * s + (2.0f * s * q * p + whole * 1.428606765330187e-06f));
    return x < 3.0e38f ? found : x; /* infinity and NaN */
}

/* In double: the order of the terms is fixed, sixteen sums side by side. */
static double NAMED(sum)(const float *x, int64_t count) {
    double sums[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= count; i += 16)
        for (int lane = 0; lane < 16; lane++) sums[lane] += (double)x[i + lane];
    for (; i < count; i++) sums[0] += (double)x[i];
    double total = 0.0;
    for (int lane = 0; lane < 16; lane++) total += sums[lane];
    return total;
}
