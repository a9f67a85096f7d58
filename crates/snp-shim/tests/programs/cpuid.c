/* Asks CPUID before and after /dev/kvm is opened, with the bytes of CPUID also where they are none. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static sigjmp_buf back;

static void own_handler(int signal)
{
    siglongjmp(back, signal);
}

__attribute__((noinline)) static void cpuid(uint32_t leaf, uint32_t out[4])
{
    __asm__ volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(0));
}

__attribute__((noinline)) static uint32_t immediate(void)
{
    uint32_t value;
    __asm__ volatile("movl $0xa20fa20f, %0" : "=r"(value));
    return value;
}

int main(void)
{
    static const unsigned char data[] = {0x0f, 0xa2, 0x0f, 0xa2};
    uint32_t before[4], after[4], seven[4], again[4];
    struct sigaction own = {.sa_handler = own_handler}, seen;
    cpuid(7, seven);
    cpuid(0x8000001f, before);
    sigaction(SIGILL, &own, NULL);
    if (open("/dev/kvm", O_RDWR) < 0)
        return 2;
    cpuid(0x8000001f, after);
    cpuid(7, again);
    /* The program's handler is still its own, and takes what is its own. */
    sigaction(SIGILL, NULL, &seen);
    int caught = sigsetjmp(back, 1);
    if (caught == 0)
        __asm__ volatile("ud2");
    printf("c-bit %u, immediate %x, data %x, same leaf 7 %d, own handler %d, caught %d\n", after[1] & 0x3f, immediate(),
           data[0] | data[1] << 8, !memcmp(seven, again, 16), seen.sa_handler == own_handler, caught == SIGILL);
    (void)before;
    return 0;
}
