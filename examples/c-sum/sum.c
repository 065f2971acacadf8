/* A small app in C over the ABI `offpeak1`, without a C library: adds up the decimal numbers of a line of text.
 *
 * One item is a line ("3 4 -5"); its result is the sum as a MessagePack integer, and reduction adds results. A line with
 * anything else in it fails with the place named, and so does a sum beyond 64 bits.
 */
#include "offpeak1.h"

/* Input and results of one call live here. Every call starts at its beginning, so all calls begin from the same state. */
#define ARENA_BYTES (4u << 20)
static _Alignas(16) uint8_t arena[ARENA_BYTES];
static uint32_t used;

struct text {
  const uint8_t *at;
  uint32_t len;
};

struct result {
  int failed;
  int64_t sum;
  const char *reason; /* of a failure */
  uint32_t reason_len;
};

static void give_up(const char *reason, uint32_t len) {
  offpeak_fail(reason, len);
  __builtin_trap();
}
#define GIVE_UP(text) give_up(text, sizeof(text) - 1)

static uint8_t *take(uint32_t len) {
  if (len > ARENA_BYTES - used) GIVE_UP("the call needs more than the app's 4 MiB");
  uint8_t *start = arena + used;
  used += len;
  return start;
}

/* Fills with zeros up to a multiple of 8; a frame begins at one, so that is also one from the frame's start. */
static void pad(void) {
  while (used % 8) *take(1) = 0;
}

static uint32_t read_u32(const uint8_t *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void write_u32(uint8_t *at, uint32_t value) {
  for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (8 * i));
}

static struct result sum_of(int64_t sum) { return (struct result){0, sum, 0, 0}; }

static struct result failure(const char *reason, uint32_t len) { return (struct result){1, 0, reason, len}; }
#define FAILURE(text) failure(text, sizeof(text) - 1)

/* The bytes of a MessagePack bin or str; a null pointer if it is something else. */
static struct text bytes_of(const uint8_t *item, uint32_t len) {
  static const struct text none = {0, 0};
  uint32_t header, size;
  if (len >= 1 && (item[0] & 0xe0) == 0xa0) {
    header = 1;
    size = item[0] & 0x1f;
  } else if (len >= 2 && (item[0] == 0xc4 || item[0] == 0xd9)) {
    header = 2;
    size = item[1];
  } else if (len >= 3 && (item[0] == 0xc5 || item[0] == 0xda)) {
    header = 3;
    size = (uint32_t)item[1] << 8 | item[2];
  } else if (len >= 5 && (item[0] == 0xc6 || item[0] == 0xdb)) {
    header = 5;
    size = (uint32_t)item[1] << 24 | (uint32_t)item[2] << 16 | (uint32_t)item[3] << 8 | item[4];
  } else {
    return none;
  }
  if (size != len - header) return none;
  return (struct text){item + header, size};
}

static struct result sum_line(struct text line) {
  int64_t sum = 0;
  uint32_t i = 0;
  while (i < line.len) {
    if (line.at[i] == ' ' || line.at[i] == '\t' || line.at[i] == '\r') {
      i++;
      continue;
    }
    int negative = line.at[i] == '-';
    if (negative) i++;
    uint32_t first = i;
    int64_t number = 0;
    for (; i < line.len && line.at[i] >= '0' && line.at[i] <= '9'; i++) {
      int64_t digit = line.at[i] - '0';
      if (number > INT64_MAX / 10 || number < INT64_MIN / 10 ||
          __builtin_add_overflow(number * 10, negative ? -digit : digit, &number))
        return FAILURE("a number of the line does not fit into 64 bits");
    }
    if (i == first) return FAILURE("the line holds something that is no decimal number");
    if (__builtin_add_overflow(sum, number, &sum)) return FAILURE("the sum of the line does not fit into 64 bits");
  }
  return sum_of(sum);
}

/* A sum is always written as a MessagePack int 64: nine bytes. */
#define SUM_BYTES 9u

static void write_sum(uint8_t *at, int64_t sum) {
  at[0] = 0xd3;
  for (int i = 0; i < 8; i++) at[1 + i] = (uint8_t)((uint64_t)sum >> (56 - 8 * i));
}

static int64_t read_sum(const uint8_t *at) {
  uint64_t sum = 0;
  for (int i = 0; i < 8; i++) sum = sum << 8 | at[1 + i];
  return (int64_t)sum;
}

/* A frame in that is being read. */
struct frame {
  const uint8_t *start;
  uint32_t len, at, count;
};

static struct frame open_frame(const uint8_t *ptr, uint32_t len) {
  if (len < 4) GIVE_UP("the frame ends early");
  return (struct frame){ptr, len, 4, read_u32(ptr)};
}

static struct text next_part(struct frame *frame) {
  if (frame->len - frame->at < 4) GIVE_UP("the frame ends early");
  uint32_t len = read_u32(frame->start + frame->at), begin = frame->at + 4;
  if (len > frame->len - begin) GIVE_UP("the frame ends early");
  uint32_t next = offpeak_padded(begin + len);
  frame->at = next < frame->len ? next : frame->len;
  return (struct text){frame->start + begin, len};
}

uint8_t *OFFPEAK_EXPORT(op_alloc)(uint32_t len) {
  used = 0;
  uint8_t *input = take(len);
  pad();
  return input;
}

uint64_t OFFPEAK_EXPORT(op_map)(uint8_t *ptr, uint32_t len) {
  struct frame in = open_frame(ptr, len);
  uint8_t *out = take(4);
  write_u32(out, in.count);
  for (uint32_t i = 0; i < in.count; i++) {
    struct text item = next_part(&in);
    struct text line = bytes_of(item.at, item.len);
    struct result result = line.at ? sum_line(line) : FAILURE("the item is no line");
    uint32_t size = result.failed ? result.reason_len : SUM_BYTES;
    write_u32(take(4), (uint32_t)result.failed);
    write_u32(take(4), size);
    uint8_t *body = take(size);
    if (result.failed) {
      for (uint32_t k = 0; k < size; k++) body[k] = (uint8_t)result.reason[k];
      offpeak_fail(result.reason, size);
    } else {
      write_sum(body, result.sum);
    }
    pad();
  }
  return offpeak_pack(out, (uint32_t)(arena + used - out));
}

uint64_t OFFPEAK_EXPORT(op_reduce)(uint8_t *ptr, uint32_t len) {
  struct frame in = open_frame(ptr, len);
  int64_t sum = 0;
  for (uint32_t i = 0; i < in.count; i++) {
    struct text part = next_part(&in);
    if (part.len != SUM_BYTES || part.at[0] != 0xd3) GIVE_UP("a partial result is no sum");
    if (__builtin_add_overflow(sum, read_sum(part.at), &sum)) GIVE_UP("the sum does not fit into 64 bits");
  }
  uint8_t *out = take(SUM_BYTES);
  write_sum(out, sum);
  return offpeak_pack(out, SUM_BYTES);
}

/* The manifest: a custom section that says what a result is. */
__asm__(
    ".section .custom_section.offpeak.manifest,\"\",@\n"
    ".ascii \"{\\\"name\\\":\\\"c-sum\\\",\\\"version\\\":\\\"0.1.0\\\",\\\"output\\\":\\\"msgpack\\\"}\"\n"
    ".text\n");
