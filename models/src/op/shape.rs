//! What operators ask of their inputs' shapes.

pub(super) fn last(shape: &[usize]) -> Result<(usize, &[usize]), String> {
    match shape.split_last() {
        Some((&dim, leading)) => Ok((dim, leading)),
        None => Err("needs at least one dimension, got a scalar".to_owned()),
    }
}

pub(super) fn tokens(shape: &[usize]) -> Result<(usize, usize), String> {
    match *shape {
        [len, dim] => Ok((len, dim)),
        _ => Err(format!("needs tokens [L, D], got {shape:?}")),
    }
}

pub(super) fn patch_embed_shape(
    input: &[usize],
    patch_size: usize,
    embed_dim: usize,
    tubelets: usize,
) -> Result<Vec<usize>, String> {
    let &[channels, height, width] = input else {
        return Err(format!("needs a picture [C, H, W], got {input:?}"));
    };
    if tubelets == 0 || channels % tubelets != 0 {
        return Err(format!("cannot cut {channels} channels into {tubelets} tubelets of as many"));
    }
    if patch_size == 0 || height % patch_size != 0 || width % patch_size != 0 {
        return Err(format!("height {height} and width {width} must be multiples of patch_size {patch_size}"));
    }
    Ok(vec![tubelets * (height / patch_size) * (width / patch_size), embed_dim])
}

pub(super) fn attention_shape(input: &[usize], num_heads: usize) -> Result<Vec<usize>, String> {
    let (len, width) = tokens(input)?;
    if num_heads == 0 || width % (3 * num_heads) != 0 {
        return Err(format!("width {width} must be 3 (q, k, v) times a multiple of num_heads {num_heads}"));
    }
    Ok(vec![len, width / 3])
}

pub(super) fn grid_shape(input: &[usize], size: [usize; 2]) -> Result<Vec<usize>, String> {
    let (len, dim) = tokens(input)?;
    match size[0].checked_mul(size[1]) {
        Some(places) if places == len => Ok(vec![size[0], size[1], dim]),
        _ => Err(format!("cannot lay {len} tokens out as {}x{}", size[0], size[1])),
    }
}

pub(super) fn shuffled_shape(input: &[usize], grid: [usize; 2], factor: usize) -> Result<Vec<usize>, String> {
    let (len, dim) = tokens(input)?;
    let square = factor.saturating_mul(factor);
    if grid[0].checked_mul(grid[1]) != Some(len) {
        return Err(format!("cannot lay {len} tokens out as {}x{}", grid[0], grid[1]));
    }
    if square == 0 || dim % square != 0 {
        return Err(format!("cannot make {factor}x{factor} tokens of one that is {dim} wide"));
    }
    Ok(vec![len.saturating_mul(square), dim / square])
}

/// Height and width of a map, which must be whole blocks, and its width.
pub(super) fn whole_blocks(input: &[usize], block: [usize; 2]) -> Result<([usize; 2], usize), String> {
    let &[height, width, dim] = input else {
        return Err(format!("needs a map [H, W, D], got {input:?}"));
    };
    if block.contains(&0) || height % block[0] != 0 || width % block[1] != 0 {
        return Err(format!("cannot cut a map of {height}x{width} into whole pieces of {}x{}", block[0], block[1]));
    }
    Ok(([height, width], dim))
}

/// Height and width of what a convolution with zeros around makes of a map.
pub(super) fn convolved(size: [usize; 2], kernel_size: usize, stride: usize) -> Result<[usize; 2], String> {
    if kernel_size.is_multiple_of(2) || stride == 0 {
        return Err(format!("needs an odd kernel and a stride of at least 1, got {kernel_size} and {stride}"));
    }
    Ok(size.map(|side| side.div_ceil(stride)))
}
