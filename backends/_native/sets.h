/* The loops for each instruction set, and the set that this processor has. */

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Pixels of a block, whose sums stay in the first-level cache while all channels pass. */
#define BLOCK 512

/* INLINED: for a function whose caller's constants decide what it is compiled to. RESTRICT: C11's word, which Microsoft's compiler
 * knows as its own. */
#if defined(_MSC_VER)
#define INLINED static __forceinline
#define RESTRICT __restrict
#else
#define INLINED static inline __attribute__((always_inline))
#define RESTRICT restrict
#endif

/* A place that is written to soon, and is in no cache perhaps: the processor fetches it meanwhile. It need not be one of the
 * caller's: nothing is read. */
#if defined(__GNUC__)
#define TO_BE_WRITTEN(place) __builtin_prefetch(place, 1, 1)
#else
#define TO_BE_WRITTEN(place) (void)0
#endif

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAMED(name) JOIN(name, SET)

typedef struct {
    const char *name;
    void (*softmax_sums)(const float *, int64_t, float *, float *, int64_t, int64_t);
    void (*softplus_and_sigmoid)(const float *, float *, float *, int64_t);
    void (*keep_where)(const uint8_t *, const float *, float, float *, int64_t);
    int64_t (*cross_entropy)(const float *, int64_t, const void *, int, float *, const float *, float *, int64_t, int64_t, int64_t);
    int64_t (*weight_sum)(const void *, int, int64_t, const float *, int64_t, int64_t, double *);
    int64_t (*plain_cross_entropy)(const float *, int64_t, const void *, int, int64_t, const float *, float, float *, int64_t, int64_t,
                                   int64_t, double *);
    double (*binary_cross_entropy)(const void *, int, const void *, int, double, const float *, void *, int64_t);
    double (*differences)(const void *, int, const void *, int, double, int, int, float, void *, int64_t, int64_t *);
    void (*through_softmax)(const float *, int64_t, const float *, int64_t, const float *, float *, float *, int64_t, int64_t,
                            int64_t);
    int64_t (*through_softmax_by_class)(const float *, int64_t, const void *, int, const float *, const float *, const float *,
                                        float *, int64_t, int64_t, int64_t);
    int64_t (*softmax_totals)(const float *, int64_t, const void *, int, const float *, float *, double *, double *, double *,
                              int64_t, int64_t);
    void (*relaxed_cross_entropy)(const float *, int64_t, const uint8_t *, int64_t, float *, const float *, float *, int64_t,
                                  int64_t, int64_t);
    float (*kth_largest)(const float *, int64_t, int64_t);
    int64_t (*jaccard_keys)(const float *, const uint8_t *, uint64_t *, int64_t *, int64_t);
    double (*lovasz)(const uint64_t *, int64_t, int64_t, float, float *, int64_t, int64_t *);
    void (*class_errors)(const float *, const float *, const float *, const int32_t *, const uint8_t *, int32_t, float *, uint8_t *,
                         int64_t);
    void (*hinge_errors)(const float *, const int32_t *, const uint8_t *, float *, uint8_t *, int64_t);
    void (*widen_bfloat16)(const uint16_t *, float *, int64_t);
    void (*narrow_bfloat16)(const float *, uint16_t *, int64_t);
    void (*widen_float16)(const uint16_t *, float *, int64_t);
    void (*narrow_float16)(const float *, uint16_t *, int64_t);
    void (*tally)(const void *, int, double, int, double, int64_t *, int64_t);
} Loops;

#define LOOPS_OF_SET(name)                                                                                             \
    {                                                                                                                  \
        name, NAMED(softmax_sums), NAMED(softplus_and_sigmoid), NAMED(keep_where), NAMED(cross_entropy), NAMED(weight_sum), NAMED(plain_cross_entropy), NAMED(binary_cross_entropy), \
            NAMED(differences), NAMED(through_softmax), NAMED(through_softmax_by_class), NAMED(softmax_totals), NAMED(relaxed_cross_entropy),           \
            NAMED(kth_largest), NAMED(jaccard_keys), NAMED(lovasz), NAMED(class_errors), NAMED(hinge_errors), NAMED(widen_bfloat16),       \
            NAMED(narrow_bfloat16), NAMED(widen_float16), NAMED(narrow_float16), NAMED(tally)                          \
    }

#if (defined(__x86_64__) || defined(_M_X64)) && defined(__GNUC__)
#define SEVERAL_SETS 1
#else
#define SEVERAL_SETS 0
#endif

/* a b + c, rounded once where the processor can: written out, so that each such set gives the same bits. */
#if SEVERAL_SETS

#define FMA(a, b, c) __builtin_fmaf(a, b, c)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")
#endif
#define SET avx512
#include "loops.h"
static const Loops LOOPS_AVX512 = LOOPS_OF_SET("avx512");
#undef SET
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define SET avx2
#include "loops.h"
static const Loops LOOPS_AVX2 = LOOPS_OF_SET("avx2");
#undef SET
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#undef FMA
#endif

/* Where the processor is not known to have it, a call would take a hundred times as long: there are two roundings then. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__FP_FAST_FMAF)
#define FMA(a, b, c) __builtin_fmaf(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif

#define SET baseline
#include "loops.h"
static const Loops LOOPS_BASELINE = LOOPS_OF_SET("baseline");
#undef SET

/* The sets that this processor has, the fastest first; the number of them. */
static int sets_here(const Loops **sets) {
    int count = 0;
#if SEVERAL_SETS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
        sets[count++] = &LOOPS_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets[count++] = &LOOPS_AVX2;
#endif
    sets[count++] = &LOOPS_BASELINE;
    return count;
}
