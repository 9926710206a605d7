//! From scores to a decision: smoothing over time, hysteresis, and the answer that no class fits.
