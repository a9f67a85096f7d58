/* A program in a guest: /dev/sev-guest by its ioctls, and configfs-tsm by files. Prints "ok", or what is wrong. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sev-guest.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROOT "/sys/kernel/config/tsm/report"
#define ENTRY ROOT "/entry"

#define WANT(condition) \
    do { \
        if (!(condition)) { \
            printf("line %d: %s (errno %d)\n", __LINE__, #condition, errno); \
            exit(1); \
        } \
    } while (0)

/* The kernel named this field fw_err before exitinfo2; it lies at 24 in all versions. */
static uint64_t exitinfo2(const struct snp_guest_request_ioctl *request)
{
    uint64_t value;
    memcpy(&value, (const char *)request + 24, sizeof value);
    return value;
}

static int ask(int fd, unsigned long number, struct snp_guest_request_ioctl *request, void *data, void *response)
{
    memset(request, 0x5a, sizeof *request);
    request->msg_version = 1;
    request->req_data = (uint64_t)data;
    request->resp_data = (uint64_t)response;
    errno = 0;
    return ioctl(fd, number, request);
}

static uint32_t word(const unsigned char *data, unsigned at)
{
    uint32_t value;
    memcpy(&value, data + at, sizeof value);
    return value;
}

static unsigned char response[4000];

static void reports(int fd)
{
    struct snp_guest_request_ioctl request;
    struct snp_report_req data = {.vmpl = 2};
    memset(data.user_data, 0x11, sizeof data.user_data);
    WANT(ask(fd, SNP_GET_REPORT, &request, &data, response) == 0);
    /* Success leaves the field as it was. */
    WANT(exitinfo2(&request) == 0x5a5a5a5a5a5a5a5a);
    WANT(word(response, 0) == 0 && word(response, 4) == 0x4a0);
    const unsigned char *report = response + 0x20;
    WANT(word(report, 0) == 5 && word(report, 0x30) == 2);
    WANT(memcmp(report + 0x50, data.user_data, 64) == 0);

    /* What the firmware refuses is in the answer's status. */
    data.vmpl = 4;
    WANT(ask(fd, SNP_GET_REPORT, &request, &data, response) == 0);
    WANT(word(response, 0) == 0x16 && word(response, 4) == 0 && word(response, 0x20) == 0);

    /* What the driver refuses leaves the messages in step. */
    data.vmpl = 0;
    WANT(ask(fd, SNP_GET_REPORT, &request, NULL, response) == -1 && errno == EINVAL && exitinfo2(&request) == 0xff);
    WANT(ask(fd, SNP_GET_REPORT, &request, &data, NULL) == -1 && errno == EINVAL);
    WANT(ask(fd, SNP_GET_REPORT, &request, (void *)8, response) == -1 && errno == EFAULT);
    WANT(ask(fd, SNP_GET_REPORT, &request, &data, (void *)8) == -1 && errno == EFAULT);
    WANT(ask(fd, _IOWR('S', 3, struct snp_guest_request_ioctl), &request, &data, response) == -1 && errno == ENOTTY);
    WANT(exitinfo2(&request) == 0xff);
    request.msg_version = 0;
    WANT(ioctl(fd, SNP_GET_REPORT, &request) == -1 && errno == EINVAL);
    WANT(ioctl(fd, SNP_GET_REPORT, 8) == -1 && errno == EFAULT);
    WANT(ask(fd, SNP_GET_REPORT, &request, &data, response) == 0 && word(response, 0) == 0);

    struct snp_ext_report_req extended = {.data = data};
    static unsigned char certificates[0x4000];
    /* Without room for certificates, how much they take. */
    WANT(ask(fd, SNP_GET_EXT_REPORT, &request, &extended, response) == -1 && errno == EIO);
    WANT(exitinfo2(&request) == 1ull << 32 && extended.certs_len != 0 && extended.certs_len % 4096 == 0);
    extended.certs_address = (uint64_t)certificates;
    WANT(ask(fd, SNP_GET_EXT_REPORT, &request, &extended, response) == 0 && word(response, 4) == 0x4a0);
    /* The first entry: its certificate is inside of the table. */
    WANT(word(certificates, 16) >= 24 && word(certificates, 16) + word(certificates, 20) <= extended.certs_len);
    extended.certs_len = 100;
    WANT(ask(fd, SNP_GET_EXT_REPORT, &request, &extended, response) == -1 && errno == EINVAL);
}

static void keys(int fd)
{
    struct snp_guest_request_ioctl request;
    struct snp_derived_key_req data = {.guest_field_select = 0x3f};
    unsigned char one[64], other[64];
    WANT(ask(fd, SNP_GET_DERIVED_KEY, &request, &data, one) == 0);
    WANT(ask(fd, SNP_GET_DERIVED_KEY, &request, &data, other) == 0);
    WANT(word(one, 0) == 0 && memcmp(one, other, 64) == 0);
    data.guest_field_select = 1;
    WANT(ask(fd, SNP_GET_DERIVED_KEY, &request, &data, other) == 0 && memcmp(one + 32, other + 32, 32) != 0);
    data.guest_svn = 1;
    WANT(ask(fd, SNP_GET_DERIVED_KEY, &request, &data, other) == 0 && word(other, 0) == 0x16);
}

static ssize_t get(const char *path, void *buffer, size_t len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t got = read(fd, buffer, len);
    close(fd);
    return got;
}

static int is(const char *path, const char *text)
{
    char buffer[100] = "";
    return get(path, buffer, sizeof buffer - 1) >= 0 && strcmp(buffer, text) == 0;
}

static void put(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    WANT(fd >= 0);
    WANT(write(fd, data, len) == (ssize_t)len);
    WANT(close(fd) == 0);
}

static void files(void)
{
    struct stat status;
    WANT(stat(ROOT, &status) == 0 && S_ISDIR(status.st_mode));
    WANT(stat(ENTRY, &status) == -1 && errno == ENOENT);
    WANT(open(ENTRY "/outblob", O_RDONLY) == -1 && errno == ENOENT);
    WANT(mkdir(ROOT "/../other", 0755) == -1);
    WANT(mkdir(ENTRY, 0755) == 0);
    WANT(mkdir(ENTRY, 0755) == -1 && errno == EEXIST);
    WANT(stat(ENTRY, &status) == 0 && S_ISDIR(status.st_mode));
    WANT(stat(ENTRY "/inblob", &status) == 0 && (status.st_mode & 0777) == 0200);
    WANT(access(ENTRY "/nothing", R_OK) == -1 && errno == ENOENT);
    WANT(open(ENTRY "/inblob", O_RDONLY) == -1 && errno == EACCES);
    WANT(open(ENTRY "/outblob", O_WRONLY) == -1 && errno == EACCES);
    WANT(is(ENTRY "/provider", "sev_guest\n") && is(ENTRY "/generation", "0\n") && is(ENTRY "/privlevel_floor", "0\n"));

    WANT(get(ENTRY "/outblob", response, sizeof response) == -1 && errno == EINVAL);
    unsigned char inblob[64];
    memset(inblob, 0x22, sizeof inblob);
    put(ENTRY "/inblob", inblob, 63);
    WANT(get(ENTRY "/outblob", response, sizeof response) == -1 && errno == EINVAL);
    put(ENTRY "/inblob", inblob, 64);
    WANT(is(ENTRY "/generation", "2\n"));
    WANT(get(ENTRY "/outblob", response, sizeof response) == 0x4a0);
    WANT(word(response, 0) == 5 && word(response, 0x30) == 0 && memcmp(response + 0x50, inblob, 64) == 0);
    WANT(get(ENTRY "/auxblob", inblob, sizeof inblob) >= 0);

    int fd = open(ENTRY "/privlevel", O_WRONLY);
    WANT(fd >= 0);
    WANT(write(fd, "4\n", 2) == -1 && errno == EINVAL);
    WANT(write(fd, "0x3\n", 4) == 4);
    close(fd);
    WANT(get(ENTRY "/outblob", response, sizeof response) == 0x4a0 && word(response, 0x30) == 3);

    /* By the C library's own streams, whose system calls nobody sees, and by another process. */
    FILE *stream = fopen(ENTRY "/inblob", "w");
    memset(inblob, 0x33, sizeof inblob);
    WANT(stream && fwrite(inblob, 1, 64, stream) == 64 && fclose(stream) == 0);
    WANT(get(ENTRY "/outblob", response, sizeof response) == 0x4a0 && response[0x50] == 0x33);
    WANT(system("printf '%064d' 7 > " ENTRY "/inblob") == 0);
    WANT(get(ENTRY "/outblob", response, sizeof response) == 0x4a0 && response[0x50] == '0' && response[0x8f] == '7');
    WANT(is(ENTRY "/generation", "5\n"));

    WANT(unlink(ENTRY "/inblob") == -1);
    WANT(rmdir(ENTRY) == 0);
    WANT(rmdir(ENTRY) == -1 && errno == ENOENT);
}

/* A child shares the guest: its messages are in step with ours. */
static void children(int fd)
{
    pid_t child = fork();
    if (child == 0) {
        reports(fd);
        exit(0);
    }
    int status;
    WANT(waitpid(child, &status, 0) == child && status == 0);
    reports(fd);
}

int main(void)
{
    WANT(access("/dev/sev-guest", R_OK | W_OK) == 0);
    int fd = open("/dev/sev-guest", O_RDWR | O_CLOEXEC);
    WANT(fd >= 0);
    reports(fd);
    keys(fd);
    files();
    children(fd);
    WANT(close(fd) == 0);
    puts("ok");
    return 0;
}
