//! Which class was taken for which, pixel by pixel.

use edge_vit::{Mask, NO_CLASS};

/// Pixels by their class and by what was said of them. Pixels without a class in the truth are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// `[truth, said]`.
    pixels: Vec<u64>,
}

impl Confusion {
    /// Nothing seen yet of `classes` classes.
    pub fn new(classes: usize) -> Self {
        Self { classes, pixels: vec![0; classes * classes] }
    }

    /// Adds a picture's pixels. Both masks have its size and hold classes below the number of them, the truth also
    /// [`NO_CLASS`]; what holds others is left out.
    pub fn add(&mut self, truth: &Mask, said: &Mask) {
        for (&truth, &said) in truth.classes().iter().zip(said.classes()) {
            let (truth_class, said) = (usize::from(truth), usize::from(said));
            if truth != NO_CLASS && truth_class < self.classes && said < self.classes {
                self.pixels[truth_class * self.classes + said] += 1;
            }
        }
    }

    /// Adds the pixels of another one of as many classes.
    pub fn merge(&mut self, other: &Self) {
        self.pixels.iter_mut().zip(&other.pixels).for_each(|(pixels, more)| *pixels += more);
    }

    /// Pixels of each class that were said to be each: `[truth][said]`.
    pub fn rows(&self) -> Vec<Vec<u64>> {
        self.pixels.chunks(self.classes.max(1)).map(<[u64]>::to_vec).collect()
    }

    /// Pixels that have `class`.
    pub fn truth(&self, class: usize) -> u64 {
        self.pixels[class * self.classes..][..self.classes].iter().sum()
    }

    /// The intersection over the union of `class`: of the pixels that have it or were said to, the share that both is true of;
    /// `None` where there are none.
    pub fn iou(&self, class: usize) -> Option<f64> {
        let both = self.pixels[class * self.classes + class];
        let said: u64 = self.pixels.iter().skip(class).step_by(self.classes).sum();
        let union = self.truth(class) + said - both;
        (union > 0).then(|| both as f64 / union as f64)
    }

    /// The mean of the intersections over unions of the classes that have one; `None` where there was no pixel.
    pub fn mean_iou(&self) -> Option<f64> {
        let of: Vec<f64> = (0..self.classes).filter_map(|class| self.iou(class)).collect();
        (!of.is_empty()).then(|| of.iter().sum::<f64>() / of.len() as f64)
    }

    /// The share of pixels that were said to be what they are; `None` where there was no pixel.
    pub fn accuracy(&self) -> Option<f64> {
        let all: u64 = self.pixels.iter().sum();
        let right: u64 = (0..self.classes).map(|class| self.pixels[class * self.classes + class]).sum();
        (all > 0).then(|| right as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(classes: &[u8]) -> Mask {
        Mask::new(classes.len() as u32, 1, classes.to_vec()).unwrap()
    }

    #[test]
    fn overlap_is_counted_by_hand() {
        let mut confusion = Confusion::new(4);
        assert_eq!((confusion.mean_iou(), confusion.accuracy(), confusion.iou(0)), (None, None, None));
        confusion.add(&mask(&[0, 0, 0, 1, 1, NO_CLASS]), &mask(&[0, 0, 1, 1, 0, 1]));
        let mut other = Confusion::new(4);
        other.add(&mask(&[0, 2, NO_CLASS]), &mask(&[0, 0, 3]));
        confusion.merge(&other);
        assert_eq!(confusion.rows(), [[3, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]);
        // 3 of 3 + 1 + 1 + 1; 1 of 1 + 1 + 1; 0 of 1; none of the last.
        let of: Vec<_> = (0..4).map(|class| confusion.iou(class)).collect();
        assert_eq!(of, [Some(0.5), Some(1.0 / 3.0), Some(0.0), None]);
        assert_eq!(confusion.mean_iou(), Some((0.5 + 1.0 / 3.0) / 3.0));
        assert_eq!(confusion.accuracy(), Some(4.0 / 7.0));
        assert_eq!(confusion.truth(1), 2);
    }
}
