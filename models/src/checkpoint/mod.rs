//! Reading weights: a map from a publisher's names to tensors, and from those to timm's.
