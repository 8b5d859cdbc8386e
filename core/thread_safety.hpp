// SPDX-License-Identifier: Apache-2.0
// clang's thread-safety annotations (-Wthread-safety) under our names; nothing to other compilers.
#pragma once

#if defined(__clang__)
#define SPW_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define SPW_THREAD_ANNOTATION(x)
#endif

#define SPW_CAPABILITY(name) SPW_THREAD_ANNOTATION(capability(name))
#define SPW_SCOPED_CAPABILITY SPW_THREAD_ANNOTATION(scoped_lockable)
#define SPW_GUARDED_BY(mutex) SPW_THREAD_ANNOTATION(guarded_by(mutex))
#define SPW_REQUIRES(...) SPW_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define SPW_EXCLUDES(...) SPW_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define SPW_ACQUIRE(...) SPW_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define SPW_RELEASE(...) SPW_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define SPW_TRY_ACQUIRE(...) SPW_THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define SPW_NO_THREAD_SAFETY SPW_THREAD_ANNOTATION(no_thread_safety_analysis)
