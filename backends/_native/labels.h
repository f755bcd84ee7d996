/* Loops over integer labels. */

static inline int64_t label_at(const char *data, int kind, int64_t i) {
    return kind == INT32 ? ((const int32_t *)data)[i] : ((const int64_t *)data)[i];
}

/* Of labels: their channels, 0 for those that are not counted, and whether they are. How many of the counted ones have no channel,
 * for which 0 stands too. */
static inline int places_of(const void *labels, int kind, int64_t start, int64_t ignore, int64_t channels, int32_t *place,
                            int32_t *kept, int count) {
    int wrong = 0;
#define PLACE(type)                                                                                                    \
    {                                                                                                                  \
        const type *from = (const type *)labels + start;                                                               \
        for (int i = 0; i < count; i++) {                                                                              \
            int64_t label = (int64_t)from[i];                                                                          \
            int counts = label != ignore, inside = (uint64_t)label < (uint64_t)channels;                               \
            wrong += counts & !inside;                                                                                 \
            kept[i] = counts;                                                                                          \
            place[i] = counts & inside ? (int32_t)label : 0;                                                           \
        }                                                                                                              \
    }
    switch (kind) {
    case INT64:
        PLACE(int64_t)
        break;
    case INT32:
        PLACE(int32_t)
        break;
    case INT16:
        PLACE(int16_t)
        break;
    default:
        PLACE(uint8_t)
    }
#undef PLACE
    return wrong;
}

#define SPLIT(type)                                                                                                    \
    static void split_##type(const type *labels, int64_t ignore, int32_t *index, uint8_t *valid, int64_t count) {      \
        for (int64_t i = 0; i < count; i++) {                                                                          \
            int kept = (int64_t)labels[i] != ignore;                                                                   \
            valid[i] = (uint8_t)kept;                                                                                  \
            index[i] = kept ? (int32_t)labels[i] : 0;                                                                  \
        }                                                                                                              \
    }
SPLIT(int64_t)
SPLIT(int32_t)
SPLIT(int16_t)
SPLIT(uint8_t)
#undef SPLIT
