// engine::uniform, bit for bit: three rounds of PCG-RXS-M-XS, 24 random bits.

fn pcg(value: u32) -> u32 {
    let state = value * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

fn uniform_of(seed: u32, stream: u32, index: u32) -> f32 {
    let hash = pcg(pcg(pcg(seed) ^ stream) ^ index);
    return f32(hash >> 8u) * (1.0 / 16777216.0);
}

// 0 or `kept`, which is 1 / (1 - rate).
fn drop_factor(rate: f32, kept: f32, seed: u32, stream: u32, index: u32) -> f32 {
    return select(kept, 0.0, uniform_of(seed, stream, index) < rate);
}

