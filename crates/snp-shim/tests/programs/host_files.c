/* The files of a host with SEV-SNP, asked for in every way. Prints "ok", or the line of the first broken wish. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define WISH(wish) do { if (!(wish)) { printf("line %d: %s (errno %d)\n", __LINE__, #wish, errno); exit(1); } } while (0)
#define SEV_ISSUE_CMD 0xc0105300ul
#define KVM_CREATE_VM 0xae01
#define KVM_CREATE_GUEST_MEMFD 0xc040aed4ul

struct __attribute__((packed)) issue {
    uint32_t command;
    uint64_t data;
    uint32_t error;
};

static void is_device(const char *path, unsigned number)
{
    struct stat stat1, stat2;
    struct statx extended;
    WISH(!stat(path, &stat1) && S_ISCHR(stat1.st_mode) && major(stat1.st_rdev) == number);
    WISH(!fstatat(AT_FDCWD, path, &stat2, 0) && !memcmp(&stat1, &stat2, sizeof stat1));
    WISH(!lstat(path, &stat2) && !memcmp(&stat1, &stat2, sizeof stat1));
    WISH(!statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &extended) && S_ISCHR(extended.stx_mode));
    WISH(extended.stx_rdev_major == number);
    WISH(!access(path, R_OK | W_OK) && access(path, X_OK) && errno == EACCES);
}

static void msrs(void)
{
    uint64_t values[2] = { 0, 0 };
    int fd = open("/dev/cpu/0/msr", O_RDONLY);
    WISH(fd >= 0);
    WISH(pread(fd, values, 16, 0xc0010010) == 16 && values[0] == values[1]);
    WISH(values[0] >> 23 & values[0] >> 24 & 1);
    WISH(lseek(fd, 0xc0010132, SEEK_SET) == 0xc0010132 && read(fd, values, 8) == 8);
    WISH(pread(fd, values + 1, 8, 0xc0010133) == 8 && values[0] < values[1]);
    WISH(pread(fd, values, 8, 0x10) == -1 && errno == EIO);
    WISH(pread(fd, values, 7, 0xc0010010) == -1 && errno == EINVAL);
    WISH(!close(fd));
}

static void configuration(void)
{
    unsigned char config[64] = { 0 };
    struct issue issue = { 11, (uintptr_t)config, 7 };
    int reader = open("/dev/sev", O_RDONLY), writer = open("/dev/sev", O_RDWR);
    WISH(reader >= 0 && writer >= 0);
    WISH(ioctl(reader, SEV_ISSUE_CMD, &issue) == -1 && errno == EPERM);
    WISH(!ioctl(writer, SEV_ISSUE_CMD, &issue) && issue.error == 0);
    config[63] = 1;
    WISH(ioctl(writer, SEV_ISSUE_CMD, &issue) == -1 && errno == EIO && issue.error == 0x16);
    WISH(!close(reader) && !close(writer));
}

/* Pages of a guest_memfd are never collapsed into large ones. */
static void collapse(void)
{
    uint64_t create[8] = { 2 << 20, 1 | 2 }; /* GUEST_MEMFD_FLAG_MMAP, _INIT_SHARED */
    int vm = ioctl(open("/dev/kvm", O_RDWR), KVM_CREATE_VM, 0), memfd;
    WISH(vm >= 0);
    memfd = ioctl(vm, KVM_CREATE_GUEST_MEMFD, create);
    WISH(memfd >= 0);
    char *mapped = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    WISH(mapped != MAP_FAILED);
    WISH(madvise(mapped, 2 << 20, 25 /* MADV_COLLAPSE */) == -1 && errno == EINVAL);
    WISH(!madvise(mapped, 2 << 20, MADV_DONTNEED));
}

int main(void)
{
    struct stat parameter;
    is_device("/dev/kvm", 10);
    is_device("/dev/sev", 10);
    is_device("/dev/cpu/17/msr", 202);
    WISH(!stat("/sys/module/kvm_amd/parameters/sev_snp", &parameter) && S_ISREG(parameter.st_mode));
    WISH(stat("/sys/module/kvm_amd/parameters/none", &parameter) == -1);
    WISH(open("/dev/cpu/x/msr", O_RDONLY) == -1);
    msrs();
    configuration();
    collapse();
    puts("ok");
    return 0;
}
