/* Random requests with random arguments, unmapped ones among them. Every answer is a number or an errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t state = 0x5eed;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Numbers of the requests, and what sizes and directions a request can claim to have. */
static unsigned long request(void)
{
    static const unsigned long whole[] = {
        0xae01, 0xae03, 0xae41, 0xae60, 0xae80, 0x4020ae46, 0x40a0ae49, 0xc008aeba, 0xc040aed4, 0x4020aed2,
        0x4068aea3, 0x4090ae82, 0x8090ae81, 0x4138ae84, 0x8138ae83, 0x4008ae90, 0xc008ae91, 0x4008ae89,
        0xc008ae88, 0xc008ae05, 0xc004ae02, 0x5000aea5, 0x9000aea4, 0x4188aea7, 0x4008ae6a, 0x4188aec6,
        0x8010aebb, 0x8010aebc, 0xc0105300, 0x8208ae63, 0xc208ae62, 0x4040aea0, 0x4004ae8b,
    };
    if (next() % 4)
        return whole[next() % (sizeof whole / sizeof *whole)];
    return 0xae00 | (next() & 0xff) | (next() & 0xc000) << 16 | (next() & 0x1fff) << 16;
}

/* Memory with nothing around it: a structure that runs over its end must not reach what the program lives on. */
static uint8_t *guarded(size_t len, int access)
{
    const size_t guard = 1 << 20;
    uint8_t *all = mmap(NULL, len + 2 * guard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED || mprotect(all + guard, len, access))
        return NULL;
    return all + guard;
}

int main(void)
{
    uint8_t *good = guarded(1 << 20, PROT_READ | PROT_WRITE), *only = guarded(1 << 16, PROT_READ);
    int fds[64], count = 0, failed = 0, done = 0;
    if (!good || !only)
        return 2;
    fds[count++] = open("/dev/kvm", O_RDWR);
    fds[count++] = open("/dev/sev", O_RDWR);
    for (int i = 0; i < 4; i++)
        fds[count++] = ioctl(fds[0], 0xae01, i == 0 ? 4 : i);
    for (int i = 0; i < 10000; i++) {
        uint64_t argument;
        switch (next() % 6) {
        case 0: argument = next(); break;
        case 1: argument = (uint64_t)only + next() % (1 << 16); break;
        case 2: argument = next() % 8; break;
        case 3: argument = (uint64_t)good + (1 << 20) - next() % 64; break;
        default: argument = (uint64_t)good + next() % (1 << 19); break;
        }
        if (next() % 2)
            for (int at = 0; at < 64; at++)
                good[next() % (1 << 20)] = next() % 3 ? next() % 8 : next();
        if (next() % 2 == 0 && argument >= (uint64_t)good && argument < (uint64_t)good + (1 << 19)) {
            /* Something that looks like a command: an id, then an address that is good. */
            uint64_t command[3] = {next() % 110, (uint64_t)good + next() % (1 << 19), (uint64_t)fds[1] << 32};
            memcpy((void *)argument, command, sizeof command);
        }
        errno = 0;
        long answer = ioctl(fds[next() % count], request(), argument);
        if (answer < -1 || (answer == -1 && (errno <= 0 || errno > 133))) {
            printf("call %d: answer %ld, errno %d\n", i, answer, errno);
            return 1;
        }
        answer == -1 ? failed++ : done++;
        /* A new descriptor joins in; the oldest of them makes room. */
        if (answer > fds[0] && answer < 1000 && fcntl(answer, F_GETFD) == FD_CLOEXEC) {
            int known = 0;
            for (int j = 0; j < count; j++)
                known |= fds[j] == answer;
            if (!known && count < 64)
                fds[count++] = answer;
            else if (!known)
                close(answer);
        }
    }
    printf("ok: %d answered, %d refused\n", done, failed);
    return 0;
}
