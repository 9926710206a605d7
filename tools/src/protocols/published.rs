//! What others measured on VTAB-1k.

/// Top-1 of a method on VTAB-1k, as published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// The method.
    pub method: &'static str,
    /// Trained parameters in millions, without the head.
    pub parameters: f64,
    /// Percent, in the order of [`super::vtab::TASKS`].
    pub top1: [f64; 19],
}

/// ViT-B/16 of ImageNet-21k, trained on the 1000 pictures of `train800val200.txt`; the best epoch, and RepAdapter's scale, were
/// chosen on the test pictures. From the tables of Luo et al. 2023 (arXiv 2302.08106) and V-PETL Bench (Xin et al. 2024).
pub const PUBLISHED: [Published; 4] = [
    Published {
        method: "RepAdapter",
        parameters: 0.22,
        top1: [
            72.4, 91.6, 71.0, 99.2, 91.4, 90.7, 55.1, 85.3, 95.9, 84.6, 75.9, 82.3, 68.0, 50.4, 79.9, 80.4, 49.2, 38.6,
            41.0,
        ],
    },
    Published {
        method: "LoRA",
        parameters: 0.29,
        top1: [
            67.1, 91.4, 69.4, 98.8, 90.4, 85.3, 54.0, 84.9, 95.3, 84.4, 73.6, 82.9, 69.2, 49.8, 78.5, 75.7, 47.1, 31.0,
            44.0,
        ],
    },
    Published {
        method: "linear",
        parameters: 0.0,
        top1: [
            63.4, 85.0, 63.2, 97.0, 86.3, 36.6, 51.0, 78.5, 87.5, 68.6, 74.0, 34.3, 30.6, 33.2, 55.4, 12.5, 20.0, 9.6,
            19.2,
        ],
    },
    Published {
        method: "full",
        parameters: 85.8,
        top1: [
            68.9, 87.7, 64.3, 97.2, 86.9, 87.4, 38.8, 79.7, 95.7, 84.2, 73.9, 56.3, 58.6, 41.7, 65.5, 57.5, 46.7, 25.7,
            29.1,
        ],
    },
];
