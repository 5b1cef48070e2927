//! Loops over many values at once.

/// Runs a loop, compiled for the widest vectors that this processor has.
///
/// It has to be arithmetic that vector units have, without branches: no division, and no product of more than 64 bits. The closure, and those that it calls,
/// must be `inline(always)`: a function that is not inlined is compiled for the oldest processor. They should own what they read (`move`): what is behind a
/// reference might be written by the loop itself, as far as the compiler can see.
#[inline(always)]
pub fn vectorized<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}
