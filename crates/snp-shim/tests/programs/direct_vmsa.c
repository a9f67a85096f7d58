/*
 * A launch by the raw uAPI: three pages of contents, two of zeros, the secrets page, and one VMSA for the boot processor of
 * two. Compiled against the kernel's headers and the constants of the proposals.
 *
 * usage: direct_vmsa direct-vmsa|vcpu-state|vcpu-state-explicit|mainline VMSA-FILE
 *
 * Prints the first command that was refused, with its errno and firmware status, or runs the boot processor.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* The proposals. */
#define KVM_CAP_SNP_DIRECT_VMSA 249
#define KVM_CAP_SNP_VCPU_STATE 251
#ifndef KVM_SEV_SNP_PAGE_TYPE_VMSA
#define KVM_SEV_SNP_PAGE_TYPE_VMSA 2
#endif
#define KVM_SEV_SNP_SET_VCPU_STATE 105
struct vcpu_state {
    __u64 valid_fields, vmsa_gpa, ghcb_gpa, pad[5];
};

#define PAGE 4096ul
#define MEMORY (2ul << 20)
#define IMAGE 0x10000ul
#define ZEROS 0x20000ul
#define SECRETS 0x30000ul
#define VMSA 0x40000ul

static int kvm, sev, vm;

static int refused(const char *what, int error)
{
    printf("%s: %s, firmware %#x\n", what, strerrorname_np(errno), error);
    exit(1);
}

#define PLAIN(call) ({ int answer = (call); if (answer < 0) refused(#call, 0); answer; })

static void command(const char *name, int fd, unsigned id, void *data)
{
    struct kvm_sev_cmd command = { .id = id, .data = (uintptr_t)data, .sev_fd = (unsigned)sev };
    if (ioctl(fd, KVM_MEMORY_ENCRYPT_OP, &command))
        refused(name, (int)command.error);
}

static void load(const char *name, unsigned long gpa, void *source, unsigned long len, unsigned type)
{
    struct kvm_memory_attributes private = { gpa, len, KVM_MEMORY_ATTRIBUTE_PRIVATE, 0 };
    struct kvm_sev_snp_launch_update update = {
        .gfn_start = gpa / PAGE, .uaddr = (uintptr_t)source, .len = len, .type = (__u8)type,
    };
    PLAIN(ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &private));
    while (update.len)
        command(name, vm, KVM_SEV_SNP_LAUNCH_UPDATE, &update);
}

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    const char *profile = arguments[1];
    void *pages = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *vmsa = (char *)pages + 4 * PAGE;
    int file = PLAIN(open(arguments[2], O_RDONLY));
    if (read(file, vmsa, PAGE) != (ssize_t)PAGE)
        return 2;
    for (unsigned long i = 0; i < 3 * PAGE; i++)
        ((unsigned char *)pages)[i] = (unsigned char)(i / PAGE + i * 7);

    kvm = PLAIN(open("/dev/kvm", O_RDWR | O_CLOEXEC));
    sev = PLAIN(open("/dev/sev", O_RDWR | O_CLOEXEC));
    vm = PLAIN(ioctl(kvm, KVM_CREATE_VM, KVM_X86_SNP_VM));
    printf("capabilities %d %d\n", ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_SNP_DIRECT_VMSA) > 0,
           ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_SNP_VCPU_STATE) > 0);

    struct kvm_sev_init init = { 0 };
    command("INIT2", vm, KVM_SEV_INIT2, &init);
    struct kvm_enable_cap hypercalls = { .cap = KVM_CAP_EXIT_HYPERCALL, .args = { 1 << 12 } };
    PLAIN(ioctl(vm, KVM_ENABLE_CAP, &hypercalls));
    struct kvm_sev_snp_launch_start start = { .policy = 0x30000 };
    command("LAUNCH_START", vm, KVM_SEV_SNP_LAUNCH_START, &start);
    if (!strcmp(profile, "vcpu-state-explicit")) {
        struct kvm_enable_cap direct = { .cap = KVM_CAP_SNP_DIRECT_VMSA };
        PLAIN(ioctl(vm, KVM_ENABLE_CAP, &direct));
    }

    struct kvm_create_guest_memfd create = { .size = MEMORY };
    int memfd = PLAIN(ioctl(vm, KVM_CREATE_GUEST_MEMFD, &create));
    struct kvm_userspace_memory_region2 region = {
        .flags = KVM_MEM_GUEST_MEMFD, .memory_size = MEMORY, .guest_memfd = (unsigned)memfd,
        .userspace_addr = (uintptr_t)mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
    };
    PLAIN(ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region));
    int vcpus[2];
    for (unsigned long id = 0; id < 2; id++)
        vcpus[id] = PLAIN(ioctl(vm, KVM_CREATE_VCPU, id));

    load("NORMAL", IMAGE, pages, 3 * PAGE, KVM_SEV_SNP_PAGE_TYPE_NORMAL);
    load("ZERO", ZEROS, NULL, 2 * PAGE, KVM_SEV_SNP_PAGE_TYPE_ZERO);
    load("SECRETS", SECRETS, (char *)pages + 3 * PAGE, PAGE, KVM_SEV_SNP_PAGE_TYPE_SECRETS);
    load("VMSA", VMSA, vmsa, PAGE, KVM_SEV_SNP_PAGE_TYPE_VMSA);
    if (!strncmp(profile, "vcpu-state", 10)) {
        struct vcpu_state state = { .valid_fields = 1, .vmsa_gpa = VMSA };
        command("SET_VCPU_STATE", vcpus[0], KVM_SEV_SNP_SET_VCPU_STATE, &state);
    }
    struct kvm_sev_snp_launch_finish finish = { 0 };
    command("LAUNCH_FINISH", vm, KVM_SEV_SNP_LAUNCH_FINISH, &finish);
    printf("launched\n");
    fflush(stdout);
    return ioctl(vcpus[0], KVM_RUN, 0) ? refused("KVM_RUN", 0) : 0;
}
