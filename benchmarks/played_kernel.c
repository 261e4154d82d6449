// SPDX-License-Identifier: Apache-2.0
/*
 * Plays the kernel in an ordinary directory that looks like /sys (plain_host.py makes it).
 *
 * It is loaded into the processes that are measured (LD_PRELOAD) and serves their write(2) to attributes,
 * which it knows by the sticky bit: apmask, aqmask, create, ap_config, assign_adapter, assign_domain,
 * assign_control_domain and remove. All other calls go to the real kernel. A write takes some renames in
 * tmpfs; the resets of queues, which take a real kernel tens of milliseconds, are missing. Writes that a
 * kernel would refuse are not refused here: only what succeeds is measured.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IDS 256
#define PAGE 4096
#define PARENT "devices/vfio_ap/matrix"
#define TYPE PARENT "/mdev_supported_types/vfio_ap-passthrough"

typedef char ids[IDS];
enum { ADAPTERS, DOMAINS, CONTROL_DOMAINS, DIMENSIONS };

/* Directory descriptor of the tree's /sys while a write is played. */
static int sys;

static int read_file(const char *path, char *text)
{
	int fd = openat(sys, path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, PAGE);

	text[length < 0 ? 0 : length] = 0;
	close(fd);
	return length < 0 ? -1 : 0;
}

static int write_file(const char *path, const char *text)
{
	int fd = openat(sys, path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : syscall(SYS_write, fd, text, strlen(text));

	close(fd);
	return length < 0 ? -1 : 0;
}

/* "0x" and 64 digits, the leftmost bit is id 0; returns what follows. */
static const char *from_hex(const char *text, ids set)
{
	text += 2;
	for (int id = 0; id < IDS; id += 4, text++)
		for (int bit = 0; bit < 4; bit++)
			set[id + bit] = (*text <= '9' ? *text - '0' : (*text | 32) - 'a' + 10) >> (3 - bit) & 1;
	return text;
}

static char *to_hex(char *text, const ids set)
{
	text = stpcpy(text, "0x");
	for (int id = 0; id < IDS; id += 4)
		*text++ = "0123456789abcdef"[set[id] << 3 | set[id + 1] << 2 | set[id + 2] << 1 | set[id + 3]];
	*text = 0;
	return text;
}

/* ap_bus.c:ap_parse_mask_str: all bits, or "+1,-0x2". */
static int change(ids set, const char *text)
{
	if (*text != '+' && *text != '-')
		return from_hex(text, set), 0;
	while (*text == '+' || *text == '-') {
		char sign = *text, *end;
		unsigned long id = strtoul(text + 1, &end, 0);

		if (id >= IDS)
			return errno = EINVAL, -1;
		set[id] = sign == '+';
		text = end + (*end == ',');
	}
	return 0;
}

/* A queue's directory as the other driver has it takes the place of the present one. */
static int rebind(const char *queue, int to_host)
{
	static const char *const drivers[] = {"vfio_ap", "cex4queue"};
	char now[PATH_MAX], other[PATH_MAX], from[PATH_MAX], to[PATH_MAX];

	sprintf(now, "devices/ap/card%.2s/%s", queue, queue);
	sprintf(other, ".played/queues/%s", queue);
	sprintf(from, "bus/ap/drivers/%s/%s", drivers[!to_host], queue);
	sprintf(to, "bus/ap/drivers/%s/%s", drivers[to_host], queue);
	return syscall(SYS_renameat2, sys, now, sys, other, 2 /* RENAME_EXCHANGE */) || renameat(sys, from, sys, to);
}

static int store_mask(const char *name, const char *text)
{
	/* The shell empties a file that it opens: the masks are kept elsewhere, too. */
	static const char *const kept[] = {".played/apmask", ".played/aqmask"};
	char page[PAGE + 1], path[40];
	ids before[2], after[2];
	int which = !strcmp(name, "aqmask"), failed = 0;

	for (int i = 0; i < 2; i++) {
		if (read_file(kept[i], page))
			return -1;
		from_hex(page, before[i]);
	}
	memcpy(after, before, sizeof(after));
	if (change(after[which], text))
		return -1;
	strcpy(to_hex(page, after[which]), "\n");
	sprintf(path, "bus/ap/%s", name);
	if (write_file(kept[which], page) || write_file(path, page))
		return -1;
	DIR *devices = fdopendir(openat(sys, "bus/ap/devices", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	for (struct dirent *entry; !failed && (entry = readdir(devices));) {
		if (strlen(entry->d_name) != 7 || entry->d_name[2] != '.')
			continue;
		unsigned long adapter = strtoul(entry->d_name, NULL, 16), domain = strtoul(entry->d_name + 3, NULL, 16);
		int was = before[0][adapter] && before[1][domain], is = after[0][adapter] && after[1][domain];

		if (was != is)
			failed = rebind(entry->d_name, is);
	}
	closedir(devices);
	return failed;
}

/* Adapters without domains, and domains without adapters, are not shown in matrix. */
static int store_matrix(const char *device, ids matrix[DIMENSIONS])
{
	char path[PATH_MAX], page[PAGE + 1], *end = page;

	for (int i = 0; i < DIMENSIONS; i++)
		end = stpcpy(to_hex(end, matrix[i]), i + 1 < DIMENSIONS ? "," : "\n");
	sprintf(path, "%s/ap_config", device);
	if (write_file(path, page))
		return -1;
	*(end = page) = 0;
	for (int adapter = 0; adapter < IDS; adapter++)
		for (int domain = 0; matrix[ADAPTERS][adapter] && domain < IDS && end < page + PAGE - 8; domain++)
			if (matrix[DOMAINS][domain]) {
				end += sprintf(end, "%02x.%04x\n", adapter, domain);
				sprintf(path, "devices/ap/card%02x/%02x.%04x/status", adapter, adapter, domain);
				write_file(path, "assigned\n");
			}
	sprintf(path, "%s/matrix", device);
	if (write_file(path, page))
		return -1;
	sprintf(path, "%s/guest_matrix", device);
	if (write_file(path, page))
		return -1;
	*(end = page) = 0;
	for (int domain = 0; domain < IDS; domain++)
		if (matrix[CONTROL_DOMAINS][domain])
			end += sprintf(end, "%04x\n", domain);
	sprintf(path, "%s/control_domains", device);
	return write_file(path, page);
}

static int read_matrix(const char *device, ids matrix[DIMENSIONS])
{
	char path[PATH_MAX], page[PAGE + 1];
	const char *text = page;

	sprintf(path, "%s/ap_config", device);
	if (read_file(path, page))
		return -1;
	for (int i = 0; i < DIMENSIONS; i++)
		text = from_hex(text, matrix[i]) + 1;
	return 0;
}

/* The links to a device: where they are, and what leads from there to the device's directory. */
static const struct { const char *in, *up; } links[] = {
	{TYPE "/devices", "../../../"},
	{"bus/mdev/devices", "../../../" PARENT "/"},
	{"bus/mdev/drivers/vfio_ap_mdev", "../../../../" PARENT "/"},
};
enum { LINKS = sizeof(links) / sizeof(*links) };

/* The device of a uuid is kept ready made, apart. */
static int create(const char *uuid)
{
	char spare[PATH_MAX], device[PATH_MAX], target[PATH_MAX], link[PATH_MAX];

	sprintf(spare, ".played/devices/%.36s", uuid);
	sprintf(device, PARENT "/%.36s", uuid);
	if (renameat(sys, spare, sys, device))
		return -1;
	for (int i = 0; i < LINKS; i++) {
		sprintf(target, "%s%.36s", links[i].up, uuid);
		sprintf(link, "%s/%.36s", links[i].in, uuid);
		if (symlinkat(target, sys, link))
			return -1;
	}
	return 0;
}

static int remove_device(const char *device)
{
	const char *uuid = strrchr(device, '/') + 1;
	char path[PATH_MAX];
	ids matrix[DIMENSIONS];

	if (read_matrix(device, matrix))
		return -1;
	for (int adapter = 0; adapter < IDS; adapter++)
		for (int domain = 0; matrix[ADAPTERS][adapter] && domain < IDS; domain++)
			if (matrix[DOMAINS][domain]) {
				sprintf(path, "devices/ap/card%02x/%02x.%04x/status", adapter, adapter, domain);
				write_file(path, "unassigned\n");
			}
	memset(matrix, 0, sizeof(matrix));
	if (store_matrix(device, matrix))
		return -1;
	for (int i = 0; i < LINKS; i++) {
		sprintf(path, "%s/%s", links[i].in, uuid);
		if (unlinkat(sys, path, 0))
			return -1;
	}
	sprintf(path, ".played/devices/%s", uuid);
	return renameat(sys, device, sys, path);
}

/* One write to the attribute at path, relative to /sys; -1 and errno if it fails. */
static int store(char *path, const char *text)
{
	static const char *const assign[] = {"assign_adapter", "assign_domain", "assign_control_domain"};
	char *name = strrchr(path, '/');
	ids matrix[DIMENSIONS];

	if (!name)
		return errno = EINVAL, -1;
	*name++ = 0;
	if (!strcmp(name, "apmask") || !strcmp(name, "aqmask"))
		return store_mask(name, text);
	if (!strcmp(name, "create"))
		return create(text);
	if (!strcmp(name, "remove"))
		return remove_device(path);
	if (!strcmp(name, "ap_config")) {
		for (int i = 0; i < DIMENSIONS; i++)
			text = from_hex(text, matrix[i]) + 1;
		return store_matrix(path, matrix);
	}
	for (int i = 0; i < DIMENSIONS; i++)
		if (!strcmp(name, assign[i])) {
			unsigned long id = strtoul(text, NULL, 0);

			if (id >= IDS || read_matrix(path, matrix))
				return errno = EINVAL, -1;
			matrix[i][id] = 1;
			return store_matrix(path, matrix);
		}
	return errno = EINVAL, -1;
}

ssize_t write(int fd, const void *data, size_t size)
{
	struct stat found;
	char link[40], path[PATH_MAX], text[PAGE + 1], *inside;
	int before = errno, failed;
	ssize_t length;

	if (fstat(fd, &found) || !S_ISREG(found.st_mode) || !(found.st_mode & S_ISVTX)) {
		errno = before;
		return syscall(SYS_write, fd, data, size);
	}
	sprintf(link, "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	path[length < 0 ? 0 : length] = 0;
	inside = strstr(path, "/sys/");
	if (!inside || size > PAGE)
		return errno = EINVAL, -1;
	memcpy(text, data, size);
	text[size] = 0;
	inside[4] = 0;
	sys = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	failed = store(inside + 5, text);
	close(sys);
	if (failed)
		return -1;
	errno = before;
	return size;
}
