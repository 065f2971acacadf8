/* The ABI `offpeak1` between an app (a WebAssembly module) and its host, for C and C++.
 *
 * All integers are little-endian. A module imports nothing but the functions below, from the module "offpeak1", and
 * exports `memory`, `op_alloc`, `op_map` and what else it needs of the functions under "Exports".
 *
 * How the host calls a module: it makes a fresh instance for each unit of work; calls `op_alloc` and `op_init` once, not
 * metered; then for each item `op_alloc`, writes a frame with the item there, and calls `op_map`, metered. It reads the
 * result before it calls `op_alloc` again. Begin every call from the same state (see `examples/c-sum`): the grid compares
 * result and fuel of an item between hosts that had other items before it.
 *
 * A frame is several byte strings in one buffer:
 *
 *     frame in    u32 count, then per part:  u32 length, the bytes, padding
 *     frame out   u32 count, then per item:  u8 status, 3 zero bytes, u32 length, the bytes, padding
 *
 * where padding is zeros up to the next multiple of 8 bytes from the frame's start, also behind the last part. Status 0
 * means a result; 1 means that the item failed, and the bytes are the reason as UTF-8. An item is a MessagePack value: the
 * index of a `range` as an unsigned integer, an entry of `items` as what it is, a line or a record as bin, a point of a
 * `grid` as a map from name to value.
 */
#ifndef OFFPEAK1_H
#define OFFPEAK1_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OFFPEAK_IMPORT(name) __attribute__((import_module("offpeak1"), import_name(#name)))
#define OFFPEAK_EXPORT(name) __attribute__((export_name(#name))) name

/* ---- Imports ---- */

/* Writes one line (UTF-8) to the log of the unit. */
OFFPEAK_IMPORT(log) void offpeak_log(const char *ptr, uint32_t len);

/* Says how much of the current item is done; only shown to people. */
OFFPEAK_IMPORT(progress) void offpeak_progress(uint32_t done, uint32_t total);

/* Gives the reason (UTF-8) why the current call fails; the last one before a failed item or a trap counts. */
OFFPEAK_IMPORT(fail) void offpeak_fail(const char *ptr, uint32_t len);

/* The length of a blob in bytes, or a negative number if there is none. Blob 0 is the job's `shared` input. */
OFFPEAK_IMPORT(blob_len) int64_t offpeak_blob_len(uint32_t blob);

/* Copies at most `len` bytes of a blob from `offset` to `ptr` and returns how many there were. */
OFFPEAK_IMPORT(blob_read) int32_t offpeak_blob_read(uint32_t blob, int64_t offset, void *ptr, uint32_t len);

/* ---- Exports: define them with OFFPEAK_EXPORT, for example  uint64_t OFFPEAK_EXPORT(op_map)(uint8_t *ptr, uint32_t len) {...}
 *
 *     uint8_t *op_alloc(uint32_t len)                  a buffer of `len` bytes for the host to write into; it begins a call
 *     int32_t  op_init(uint8_t *ptr, uint32_t len)     optional: the job's [params] as a MessagePack map; 0 = ok
 *     uint64_t op_map(uint8_t *ptr, uint32_t len)      frame of items in, frame of results out, packed by offpeak_pack
 *     uint64_t op_reduce(uint8_t *ptr, uint32_t len)   optional: frame of partial results in item order in, one partial result
 *                                                      out (plain bytes); an item's result is itself a partial result
 *     uint64_t op_finish(uint8_t *ptr, uint32_t len)   optional: the last partial result in, the job's output out (plain bytes)
 */

/* Packs the address and the length of a result. */
static inline uint64_t offpeak_pack(const void *ptr, uint32_t len) {
  return ((uint64_t)(uintptr_t)ptr << 32) | len;
}

/* The next multiple of 8: where the next part begins, counted from the frame's start. */
static inline uint32_t offpeak_padded(uint32_t offset) { return (offset + 7u) & ~7u; }

#ifdef __cplusplus
}
#endif

#endif
