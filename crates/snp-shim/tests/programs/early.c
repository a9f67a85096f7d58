/* Asks the processor, and opens nothing. */
#include <cpuid.h>
#include <stdio.h>

int main(void)
{
    unsigned a, b, c, d, signature;
    __cpuid_count(0x8000001f, 0, a, b, c, d);
    unsigned position = b & 0x3f;
    __cpuid_count(1, 0, signature, b, c, d);
    unsigned family = (signature >> 8 & 0xf) + (signature >> 20 & 0xff);
    printf("c-bit %u, family %02x, model %02x\n", position, family, (signature >> 4 & 0xf) | (signature >> 12 & 0xf0));
    return 0;
}
