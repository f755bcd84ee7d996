/* Threads that do the pieces of one loop together. They are Python's own, with Python's locks, which are there on every system;
 * none of them ever runs Python, so that they need not wait for the interpreter's lock.
 *
 * Whoever is called but comes late finds the job closed: no one waits for a thread that has nothing to do any more. A second
 * caller, meanwhile, works alone.
 */

#define MOST_THREADS 256

#if defined(_MSC_VER)
#include <intrin.h>
typedef volatile __int64 Atomic;
#define LOAD(from) _InterlockedOr64(from, 0)
#define STORE(to, value) (void)_InterlockedExchange64(to, value)
#define ADD(to, value) _InterlockedExchangeAdd64(to, value)
#define EXCHANGE(to, value) _InterlockedExchange64(to, value)
static int replaced(Atomic *at, int64_t old, int64_t next) { return _InterlockedCompareExchange64(at, next, old) == old; }
#else
typedef int64_t Atomic;
#define LOAD(from) __atomic_load_n(from, __ATOMIC_SEQ_CST)
#define STORE(to, value) __atomic_store_n(to, value, __ATOMIC_SEQ_CST)
#define ADD(to, value) __atomic_fetch_add(to, value, __ATOMIC_SEQ_CST)
#define EXCHANGE(to, value) __atomic_exchange_n(to, value, __ATOMIC_SEQ_CST)
static int replaced(Atomic *at, int64_t old, int64_t next) {
    return __atomic_compare_exchange_n(at, &old, next, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
#endif

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() (void)0
#endif

/* Does one piece; `seat` is below the number of threads, and no two that work at a time have the same. */
typedef void (*Work)(void *job, int64_t piece, int seat);

/* What `state` holds: how many helpers are at the job, and whether no more may join. */
#define CLOSED ((int64_t)1 << 32)
/* Looks at whether the helpers have left before the caller goes to sleep: about 20 microseconds, less than waking up takes. */
#define LOOKS 500

static struct {
    /* One a helper: it sleeps until its lock is let go. `called` keeps a lock from being let go twice. */
    PyThread_type_lock locks[MOST_THREADS];
    Atomic called[MOST_THREADS];
    int32_t numbers[MOST_THREADS];
    int helpers;
    /* A new helper lets it go; and `left`, the last of those that leave a job which is over. */
    PyThread_type_lock arrived, left;
    /* Whose turn it is: 1 while a job is open. */
    Atomic taken;
    Atomic state, next;
    /* The job, which may be read by whoever has joined. */
    Work work;
    void *job;
    int64_t pieces;
    int threads;
} team = {.state = CLOSED};

static void work_on(int seat) {
    for (int64_t piece = ADD(&team.next, 1); piece < team.pieces; piece = ADD(&team.next, 1)) team.work(team.job, piece, seat);
}

static void help(void *number) {
    const int helper = (int)(intptr_t)number;
    team.numbers[helper] = own_thread();
    PyThread_release_lock(team.arrived);
    for (;;) {
        PyThread_acquire_lock(team.locks[helper], WAIT_LOCK);
        STORE(&team.called[helper], 0);
        int64_t state = LOAD(&team.state);
        while (!(state & CLOSED) && !replaced(&team.state, state, state + 1)) state = LOAD(&team.state);
        if (state & CLOSED) continue;
        /* Called for an earlier job, it may be one too many for this. */
        if (helper + 1 < team.threads) work_on(helper + 1);
        if (ADD(&team.state, -1) == CLOSED + 1) PyThread_release_lock(team.left);
    }
}

/* A lock that is taken already; or an error is set. */
static PyThread_type_lock taken_lock(void) {
    PyThread_type_lock lock = PyThread_allocate_lock();
    if (lock)
        PyThread_acquire_lock(lock, NOWAIT_LOCK);
    else
        PyErr_NoMemory();
    return lock;
}

/* Warns once that there are fewer threads than asked for; 0 and an error where warnings are errors. */
static int told_of_fewer(void) {
    static int told = 0;
    if (told) return 1;
    told = 1;
    return !PyErr_WarnEx(PyExc_RuntimeWarning,
                         "the system starts no further thread: fewer than are wanted share the compiled loops of losses, "
                         "which takes longer; set_num_threads(1) asks for no other",
                         1);
}

/* How many threads there are of those asked for, the caller's included: the missing ones are started. 0 and an error where
 * there is no memory for them or too many are asked for. The interpreter's lock is held. */
static int team_of(int threads) {
    if (threads < 1 || threads > MOST_THREADS) {
        PyErr_Format(PyExc_ValueError, "threads must be in [1, %d] (got %d)", MOST_THREADS, threads);
        return 0;
    }
    if (threads > 1 && !team.left && !(team.left = taken_lock())) return 0;
    if (threads > 1 && !team.arrived && !(team.arrived = taken_lock())) return 0;
    while (team.helpers < threads - 1) {
        PyThread_type_lock lock = taken_lock();
        if (!lock) return 0;
        team.locks[team.helpers] = lock;
        if (PyThread_start_new_thread(help, (void *)(intptr_t)team.helpers) == (unsigned long)-1) {
            PyThread_free_lock(lock);
            /* Looked at first: another caller may start some while Python warns. */
            const int found = team.helpers + 1;
            return told_of_fewer() ? found : 0;
        }
        PyThread_acquire_lock(team.arrived, WAIT_LOCK);
        team.helpers++;
    }
    return threads;
}

/* Does all pieces, in any order, with as many threads at most as `team_of` was asked for. */
static void share_out(Work work, void *job, int64_t pieces, int threads) {
    if (threads > pieces) threads = (int)pieces;
    if (threads < 2 || EXCHANGE(&team.taken, 1)) {
        for (int64_t piece = 0; piece < pieces; piece++) work(job, piece, 0);
        return;
    }
    team.work = work;
    team.job = job;
    team.pieces = pieces;
    team.threads = threads;
    STORE(&team.next, 0);
    STORE(&team.state, 0);
    send_away(team.numbers, threads - 1);
    for (int helper = 0; helper + 1 < threads; helper++)
        if (!EXCHANGE(&team.called[helper], 1)) PyThread_release_lock(team.locks[helper]);
    work_on(0);
    if (ADD(&team.state, CLOSED) > 0) {
        for (int look = 0; look < LOOKS && LOAD(&team.state) != CLOSED; look++) PAUSE();
        PyThread_acquire_lock(team.left, WAIT_LOCK);
    }
    STORE(&team.taken, 0);
}

/* forget_threads(): for the child of a fork, which has none of them. */
static PyObject *forget_threads(PyObject *self, PyObject *unused) {
    memset(&team, 0, sizeof team);
    team.state = CLOSED;
    Py_RETURN_NONE;
}

/* send_away(threads): the caller calls these now, whose numbers stand in a list */
static PyObject *send_them_away(PyObject *self, PyObject *threads) {
    int32_t numbers[MOST_THREADS];
    int64_t count = 0;
    if (!PyList_Check(threads)) return PyErr_Format(PyExc_TypeError, "expected a list of numbers");
    for (Py_ssize_t i = 0; i < PyList_Size(threads) && count < MOST_THREADS; i++)
        numbers[count++] = (int32_t)PyLong_AsLong(PyList_GetItem(threads, i));
    if (PyErr_Occurred()) return NULL;
    send_away(numbers, count);
    Py_RETURN_NONE;
}
