// SPDX-License-Identifier: MIT
#pragma once

// Allocations of Eigen (malloc, wrapped by the linker) and of the standard library (operator new) are counted, and can be
// made to fail. Include it in one file of a program that is linked with -Wl,--wrap=malloc -Wl,--wrap=free.
#include <cstdlib>
#include <new>

namespace memory {

inline long allocations = 0;   ///< so far
inline long live = 0;          ///< not freed yet
inline long fails_after = -1;  ///< so many more succeed, the next one fails; −1: all succeed

inline bool fails() {
  ++allocations;
  if (fails_after < 0) return false;
  return fails_after-- == 0;
}

}  // namespace memory

extern "C" void* __real_malloc(std::size_t);
extern "C" void __real_free(void*);

// Not inlined, because GCC warns of an inlined free as one of the wrong kind.
extern "C" void* __wrap_malloc(std::size_t size) {
  if (memory::fails()) return nullptr;
  ++memory::live;
  return __real_malloc(size);
}
extern "C" void __wrap_free(void* p) {
  memory::live -= p != nullptr;
  __real_free(p);
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  if (memory::fails()) return nullptr;
  ++memory::live;
  return std::aligned_alloc(static_cast<std::size_t>(alignment), (size + 63) / 64 * 64 + 64);
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
  if (void* p = ::operator new(size, alignment, std::nothrow)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (memory::fails()) throw std::bad_alloc();
  ++memory::live;
  return __real_malloc(size);
}
[[gnu::noinline]] void operator delete(void* p) noexcept {
  memory::live -= p != nullptr;
  __real_free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept {
  ::operator delete(p);
}
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept {
  ::operator delete(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  ::operator delete(p);
}
