/* Functions of one number. See loops.h. */

/* exp(x) for x <= 0, within one ulp; NaN stays NaN. */
static inline float NAMED(exp)(float x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to an integer */
    x = x < -105.0f ? -105.0f : x;
    float shifted = FMA(x, 1.44269504088896341f, magic);
    float n = shifted - magic;
    /* ln 2 in two parts, the first with so few digits that n times it is exact. */
    float r = FMA(n, -0.693145751953125f, x);
    r = FMA(n, -1.428606765330187e-06f, r);
    float p = 1.9875691500e-4f;
    p = FMA(p, r, 1.3981999507e-3f);
    p = FMA(p, r, 8.3334519073e-3f);
    p = FMA(p, r, 4.1665795894e-2f);
    p = FMA(p, r, 1.6666665459e-1f);
    p = FMA(p, r, 5.0000001201e-1f);
    p = FMA(p, r * r, r) + 1.0f;
    /* n stands in the lowest bits. 2^(n + 32) is a normal number for every n; the last factor rounds where 2^n is none. */
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + ((127u + 32u) << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power * 0x1p-32f;
}

/* log(1 + e) for e in [0, 1]: 2 artanh(e / (2 + e)), a series in the square of a number that is at most 1/3. */
static inline float NAMED(log1p)(float e) {
    float s = e / (2.0f + e), q = s * s, twice = s + s;
    float p = 1.0f / 13.0f;
    p = FMA(p, q, 1.0f / 11.0f);
    p = FMA(p, q, 1.0f / 9.0f);
    p = FMA(p, q, 1.0f / 7.0f);
    p = FMA(p, q, 1.0f / 5.0f);
    p = FMA(p, q, 1.0f / 3.0f);
    return FMA(twice * q, p, twice);
}

/* log(1 + e) for any e >= 0: the same series for the fraction of 1 + e, in [1/sqrt 2, sqrt 2), and n times ln 2. */
static inline float NAMED(log1p_of_any)(float e) {
    float x = 1.0f + e, lost = e - (x - 1.0f);
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int32_t n = (bits - 0x3F3504F3) >> 23;
    int32_t exponent = (int32_t)((uint32_t)n << 23), fraction_bits = bits - exponent, scale_bits = 0x3F800000 - exponent;
    float fraction, scale;
    memcpy(&fraction, &fraction_bits, sizeof fraction);
    memcpy(&scale, &scale_bits, sizeof scale);
    /* What the sum has lost of e goes in again: all of a small one does. */
    float over = FMA(lost, scale, fraction - 1.0f);
    float s = over / (2.0f + over), q = s * s, twice = s + s, whole = (float)n;
    float p = 1.0f / 9.0f;
    p = FMA(p, q, 1.0f / 7.0f);
    p = FMA(p, q, 1.0f / 5.0f);
    p = FMA(p, q, 1.0f / 3.0f);
    float found = FMA(whole, 0.693145751953125f, twice + FMA(twice * q, p, whole * 1.428606765330187e-06f));
    return e < 3.0e38f ? found : e; /* infinity and NaN */
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
