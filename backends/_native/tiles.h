/* An image's pixels as the loops take them, which know float32 alone: such logits as they lie there, all at once; half precision
 * a block at a time, widened into one room and, where a gradient is wanted, rounded from another.
 */

#define FLOATS (FLOAT32 | UINT16 | FLOAT16)

/* The loops of a kind of half precision. */
typedef void (*Widen)(const uint16_t *, float *, int64_t);
typedef void (*Narrow)(const float *, uint16_t *, int64_t);

static Widen widen_of(int kind) { return kind == FLOAT16 ? loops->widen_float16 : loops->widen_bfloat16; }

static Narrow narrow_of(int kind) { return kind == FLOAT16 ? loops->narrow_float16 : loops->narrow_bfloat16; }

typedef struct {
    /* What is passed on to a loop. */
    const float *z;
    float *out;
    int64_t z_step, out_step, start, count;
    /* Where it comes from and goes to; no `to` where nothing is written. */
    const Array *from, *to;
    float *wide, *room;
} Tile;

/* Room for one number of each channel of a block of pixels, to be let go by PyMem_Free; or an error is set. */
static float *block_room(int64_t channels) {
    float *room = channels > PY_SSIZE_T_MAX / (BLOCK * 4) ? NULL : PyMem_Malloc((size_t)channels * BLOCK * sizeof(float));
    if (!room) PyErr_NoMemory();
    return room;
}

static int is_half(const Array *array) { return array && array->kind != FLOAT32; }

/* To be ended with `let_go`; or an error is set. */
static Tile tile_of(const Array *from, const Array *to) {
    Tile tile = {.from = from, .to = to};
    if (is_half(from)) tile.wide = block_room(from->shape[1]);
    if (is_half(to) && !PyErr_Occurred()) tile.room = block_room(from->shape[1]);
    return tile;
}

static void let_go(Tile *tile) {
    PyMem_Free(tile->wide);
    PyMem_Free(tile->room);
}

static void let_all_go(Tile *tiles, int count) {
    for (int i = 0; tiles && i < count; i++) let_go(&tiles[i]);
    PyMem_Free(tiles);
}

/* One a thread, to be ended with `let_all_go`; or an error is set. */
static Tile *tiles_of(const Array *from, const Array *to, int count) {
    Tile *tiles = PyMem_Calloc((size_t)count, sizeof(Tile));
    if (!tiles) PyErr_NoMemory();
    for (int i = 0; tiles && i < count; i++) {
        tiles[i] = tile_of(from, to);
        if (!PyErr_Occurred()) continue;
        let_all_go(tiles, i + 1);
        tiles = NULL;
    }
    return tiles;
}

/* Opens the tile behind the last one of image n, before pixel `end`; 0: there is none. `count` is 0 before the first. */
static int next_tile_before(Tile *tile, int64_t n, int64_t end) {
    const Array *from = tile->from, *to = tile->to;
    tile->start += tile->count;
    int64_t left = end - tile->start;
    if (left <= 0) {
        tile->start = tile->count = 0;
        return 0;
    }
    tile->count = (tile->wide || tile->room) && left > BLOCK ? BLOCK : left;
    tile->z = tile->wide ? tile->wide : IMAGE(*from, float, n) + tile->start;
    tile->z_step = tile->wide ? BLOCK : from->step[1];
    if (tile->wide) {
        Widen widen_row = widen_of(from->kind);
        for (int64_t c = 0; c < from->shape[1]; c++)
            widen_row(IMAGE(*from, uint16_t, n) + c * from->step[1] + tile->start, tile->wide + c * BLOCK, tile->count);
    }
    if (to) {
        tile->out = tile->room ? tile->room : IMAGE(*to, float, n) + tile->start;
        tile->out_step = tile->room ? BLOCK : to->step[1];
    }
    return 1;
}

/* Rounds what a loop has written. */
static void close_tile(const Tile *tile, int64_t n) {
    if (!tile->room) return;
    const Array *to = tile->to;
    Narrow narrow_row = narrow_of(to->kind);
    for (int64_t c = 0; c < to->shape[1]; c++)
        narrow_row(tile->room + c * BLOCK, IMAGE(*to, uint16_t, n) + c * to->step[1] + tile->start, tile->count);
}
