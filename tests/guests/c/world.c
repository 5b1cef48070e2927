// What a guest sees of the world by WASI. It prints that to its standard output, which is the job's log: a line for each thing.

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <wasi/api.h>

void look_around(void);

static void look_at_file(const char *path, const char *mode) {
  FILE *file = fopen(path, mode);
  printf("%s, to be opened for %s: %s\n", path, mode, file ? "is there" : "is not there");
  if (file) fclose(file);
}

void look_around(void) {
  size_t count, bytes;
  if (__wasi_environ_sizes_get(&count, &bytes) == __WASI_ERRNO_SUCCESS) printf("variables: %zu\n", count);
  if (__wasi_args_sizes_get(&count, &bytes) == __WASI_ERRNO_SUCCESS) printf("arguments: %zu\n", count);

  __wasi_prestat_t folder;
  printf("first open folder: %s\n", __wasi_fd_prestat_get(3, &folder) == __WASI_ERRNO_BADF ? "none" : "there is one");
  DIR *root = opendir("/");
  printf("folder /: %s\n", root ? "is there" : "is not there");
  if (root) closedir(root);
  look_at_file("/etc/passwd", "r");
  look_at_file("/tmp/weir-guest", "w");

  char buffer[64];
  printf("bytes of standard input: %zd\n", read(STDIN_FILENO, buffer, sizeof buffer));

  struct timespec now, later, hour = {.tv_sec = 3600};
  clock_gettime(CLOCK_REALTIME, &now);
  printf("seconds since 1970: %lld\n", (long long)now.tv_sec);
  clock_gettime(CLOCK_MONOTONIC, &now);
  nanosleep(&hour, NULL);
  clock_gettime(CLOCK_MONOTONIC, &later);
  printf("seconds that an hour takes: %lld\n", (long long)(later.tv_sec - now.tv_sec));

  uint64_t random[2];
  if (!getentropy(random, sizeof random)) printf("random numbers: %016llx %016llx\n", (long long)random[0], (long long)random[1]);
  fflush(stdout);
}
