/* Descriptors in every order, forks, threads and two VMs at once. Prints "ok", or the line of the first broken wish. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KVM_GET_API_VERSION 0xae00
#define KVM_CREATE_VM 0xae01
#define KVM_CHECK_EXTENSION 0xae03
#define KVM_GET_VCPU_MMAP_SIZE 0xae04
#define KVM_CREATE_VCPU 0xae41
#define KVM_GET_REGS 0x8090ae81ul

#define WISH(wish) do { if (!(wish)) { printf("line %d: %s (errno %d)\n", __LINE__, #wish, errno); exit(1); } } while (0)

static int descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    WISH(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static void *checks(void *vm)
{
    for (int i = 0; i < 1000; i++)
        WISH(ioctl((int)(long)vm, KVM_CHECK_EXTENSION, 9) > 0);
    return NULL;
}

static void once(void)
{
    unsigned char regs[144];
    struct stat stat;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    WISH(kvm >= 0);
    WISH(ioctl(kvm, KVM_GET_API_VERSION, 0) == 12);
    int vm = ioctl(kvm, KVM_CREATE_VM, 4), other = ioctl(kvm, KVM_CREATE_VM, 0);
    WISH(vm >= 0 && other >= 0 && vm != other);
    WISH(fcntl(vm, F_GETFD) == FD_CLOEXEC);
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    WISH(vcpu >= 0);
    WISH(ioctl(vm, KVM_CREATE_VCPU, 0) == -1 && errno == EEXIST);
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    WISH(fstat(vcpu, &stat) == 0 && stat.st_size == size);
    void *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    WISH(run != MAP_FAILED && ((volatile char *)run)[size - 1] == 0);

    /* A duplicate keeps the VM; /dev/kvm is not needed any longer. */
    int copy = dup(vm), third = fcntl(vm, F_DUPFD_CLOEXEC, 100);
    WISH(copy >= 0 && third >= 100);
    WISH(close(vm) == 0 && close(kvm) == 0);
    WISH(ioctl(copy, KVM_CHECK_EXTENSION, 9) > 0 && ioctl(third, KVM_CHECK_EXTENSION, 9) > 0);
    WISH(ioctl(vm, KVM_CHECK_EXTENSION, 9) == -1 && errno == EBADF);
    WISH(dup2(other, copy) == copy);
    WISH(ioctl(copy, KVM_CREATE_VCPU, 0) >= 0);

    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        WISH(pthread_create(&threads[i], NULL, checks, (void *)(long)(i % 2 ? third : other)) == 0);

    /* KVM belongs to an address space: the child may not use the VM, but a KVM of its own. */
    pid_t child = fork();
    WISH(child >= 0);
    if (child == 0) {
        WISH(ioctl(third, KVM_CHECK_EXTENSION, 9) == -1 && errno == EIO);
        WISH(close(third) == 0 && close(vcpu) == 0);
        int own = open("/dev/kvm", O_RDWR);
        WISH(own >= 0 && ioctl(own, KVM_CREATE_VM, 4) >= 0);
        _exit(0);
    }
    int status;
    WISH(waitpid(child, &status, 0) == child && status == 0);
    for (int i = 0; i < 4; i++)
        WISH(pthread_join(threads[i], NULL) == 0);

    /* A vCPU outlives its VM's descriptors. */
    WISH(close(third) == 0 && ioctl(vcpu, KVM_GET_REGS, regs) == 0);
    WISH(munmap(run, size) == 0);
    /* The two vCPUs' and what is left, in one go. */
    WISH(close_range(3, ~0u, 0) == 0);
    WISH(ioctl(vcpu, KVM_GET_REGS, regs) == -1 && errno == EBADF);
    /* A number that was ours is a file now. */
    int file = open("/dev/null", O_RDWR);
    WISH(file >= 0 && ioctl(file, KVM_GET_API_VERSION, 0) == -1 && errno == ENOTTY);
    WISH(close(file) == 0);
}

int main(void)
{
    once();
    int before = descriptors();
    for (int i = 0; i < 20; i++)
        once();
    WISH(descriptors() == before);
    puts("ok");
    return 0;
}
