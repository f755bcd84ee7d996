/* Where threads run, on Linux. In a virtual machine a core that has nothing to do is given back to the host, and Linux then takes
 * it for one that another machine uses: a thread that is called after a pause wakes on the core of its caller, and the two take
 * turns until a tick moves one of them, 4 to 10 milliseconds later. That is longer than most losses take. So the caller's core is
 * forbidden to those that it calls.
 */

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

static int own_thread(void) { return (int)syscall(SYS_gettid); }

/* Of the cores that the caller may use: those threads get all but its own. What fails changes nothing. */
static void send_away(const int32_t *threads, int64_t count) {
    cpu_set_t cores;
    int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof cores, &cores)) return;
    CPU_CLR((size_t)here, &cores);
    if (CPU_COUNT(&cores) == 0) return;
    for (int64_t i = 0; i < count; i++) (void)sched_setaffinity(threads[i], sizeof cores, &cores);
}
#else
static int own_thread(void) { return 0; }

static void send_away(const int32_t *threads, int64_t count) {}
#endif
