//! What C's mathematical library has and this program needs, without that library: each start of the program would load it, for
//! a few functions that benchmarks and progress bars call.
#![expect(unsafe_code, reason = "the names are C's, for the linker to find them here first")]

/// The natural logarithm.
// SAFETY: it is what C's function of this name is.
#[unsafe(no_mangle)]
extern "C" fn log(x: f64) -> f64 {
    libm::log(x)
}

/// The decimal logarithm.
// SAFETY: it is what C's function of this name is.
#[unsafe(no_mangle)]
extern "C" fn log10(x: f64) -> f64 {
    libm::log10(x)
}

/// The exponential function.
// SAFETY: it is what C's function of this name is.
#[unsafe(no_mangle)]
extern "C" fn exp(x: f64) -> f64 {
    libm::exp(x)
}

/// A power.
// SAFETY: it is what C's function of this name is.
#[unsafe(no_mangle)]
extern "C" fn pow(x: f64, y: f64) -> f64 {
    libm::pow(x, y)
}
