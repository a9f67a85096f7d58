/* A guest's writes signal eventfds. Prints "ok", or the line of the first broken wish. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define WISH(wish) do { if (!(wish)) { printf("line %d: %s (errno %d)\n", __LINE__, #wish, errno); exit(1); } } while (0)

int main(void)
{
    /* out 0x80, al; out 0x80, al; out 0x81, al; hlt */
    static const uint8_t code[] = { 0xe6, 0x80, 0xe6, 0x80, 0xe6, 0x81, 0xf4 };
    int kvm = open("/dev/kvm", O_RDWR), vm = ioctl(kvm, KVM_CREATE_VM, 0);
    uint8_t *memory = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region region = { .guest_phys_addr = 0x1000, .memory_size = 0x1000 };
    WISH(vm >= 0 && memory != MAP_FAILED);
    memcpy(memory, code, sizeof code);
    region.userspace_addr = (uintptr_t)memory;
    WISH(!ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region));

    int counter = eventfd(0, EFD_NONBLOCK), file = open("/dev/null", O_RDWR);
    struct kvm_ioeventfd event = { .addr = 0x80, .len = 1, .flags = KVM_IOEVENTFD_FLAG_PIO, .fd = file };
    WISH(ioctl(vm, KVM_IOEVENTFD, &event) && errno == EINVAL);
    event.fd = 1000;
    WISH(ioctl(vm, KVM_IOEVENTFD, &event) && errno == EBADF);
    event.fd = counter;
    WISH(!ioctl(vm, KVM_IOEVENTFD, &event));
    WISH(ioctl(vm, KVM_IOEVENTFD, &event) && errno == EEXIST);
    /* KVM holds the eventfd, not its number. */
    int kept = dup(counter);
    close(counter);
    WISH(kept >= 0);

    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0), len = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    struct kvm_run *run = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    struct kvm_regs regs = { .rip = 0x1000, .rflags = 2 };
    struct kvm_sregs sregs;
    WISH(run != MAP_FAILED && !ioctl(vcpu, KVM_GET_SREGS, &sregs));
    sregs.cs.base = sregs.cs.selector = 0;
    WISH(!ioctl(vcpu, KVM_SET_SREGS, &sregs) && !ioctl(vcpu, KVM_SET_REGS, &regs));
    WISH(!ioctl(vcpu, KVM_RUN, 0) && run->exit_reason == KVM_EXIT_IO && run->io.port == 0x81);
    uint64_t count = 0;
    WISH(read(kept, &count, sizeof count) == sizeof count && count == 2);
    WISH(!ioctl(vcpu, KVM_RUN, 0) && run->exit_reason == KVM_EXIT_HLT);

    event.fd = kept;
    event.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
    WISH(!ioctl(vm, KVM_IOEVENTFD, &event));
    WISH(ioctl(vm, KVM_IOEVENTFD, &event) && errno == ENOENT);
    puts("ok");
    return 0;
}
