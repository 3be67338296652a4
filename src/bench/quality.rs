//! How near a picture is to what it was made of: SSIM and PSNR of luma planes. Pure.

/// Sums of squared differences, and similarities, over pictures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quality {
    pub pictures: usize,
    ssim: f64,
    squares: f64,
    pixels: f64,
}

impl Quality {
    /// Compares two planes, both tight, of that width.
    pub fn add(&mut self, a: &[u8], b: &[u8], width: usize) {
        let squares: u64 = a.iter().zip(b).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum();
        self.pictures += 1;
        self.squares += squares as f64;
        self.pixels += a.len().min(b.len()) as f64;
        self.ssim += ssim(a, b, width);
    }

    /// The mean structural similarity, 0 to 1.
    pub fn ssim(&self) -> Option<f64> {
        (self.pictures > 0).then(|| self.ssim / self.pictures as f64)
    }

    /// Of the mean squared error over all pictures, dB; `None` where there is no error at all, which no number says.
    pub fn psnr_db(&self) -> Option<f64> {
        (self.squares > 0.0).then(|| 10.0 * (255.0f64.powi(2) * self.pixels / self.squares).log10())
    }
}

/// SSIM (Wang et al., 2004) over windows of 8x8 pixels, 4 apart, without weights: as x264 and FFmpeg's `ssim` filter do.
fn ssim(a: &[u8], b: &[u8], width: usize) -> f64 {
    let height = a.len().min(b.len()) / width.max(1);
    let (columns, rows) = (width / 4, height / 4);
    if columns < 2 || rows < 2 {
        return f64::NAN;
    }
    // Sums over blocks of 4x4, of which a window has four.
    let line = |row: usize| -> Vec<[u32; 4]> {
        let mut sums = vec![[0; 4]; columns];
        for y in row * 4..row * 4 + 4 {
            let (a, b) = (&a[y * width..][..width], &b[y * width..][..width]);
            for ((sums, a), b) in sums.iter_mut().zip(a.as_chunks::<4>().0).zip(b.as_chunks::<4>().0) {
                for (&a, &b) in a.iter().zip(b) {
                    let (a, b) = (u32::from(a), u32::from(b));
                    sums[0] += a;
                    sums[1] += b;
                    sums[2] += a * a + b * b;
                    sums[3] += a * b;
                }
            }
        }
        sums
    };
    let mut above = line(0);
    let mut total = 0.0;
    for row in 1..rows {
        let below = line(row);
        for at in 0..columns - 1 {
            let mut window = [0; 4];
            for block in [&above[at], &above[at + 1], &below[at], &below[at + 1]] {
                window.iter_mut().zip(block).for_each(|(sum, part)| *sum += part);
            }
            total += of_window(window.map(f64::from));
        }
        above = below;
    }
    total / ((rows - 1) * (columns - 1)) as f64
}

/// Of the sums of 64 pixels: a, b, a²+b², ab.
fn of_window([a, b, squares, product]: [f64; 4]) -> f64 {
    // (0.01·255)² and (0.03·255)², of means over 64 pixels.
    const C1: f64 = 0.01 * 0.01 * 255.0 * 255.0 * 64.0 * 64.0;
    const C2: f64 = 0.03 * 0.03 * 255.0 * 255.0 * 64.0 * 63.0;
    let variances = squares * 64.0 - a * a - b * b;
    let covariance = product * 64.0 - a * b;
    (2.0 * a * b + C1) * (2.0 * covariance + C2) / ((a * a + b * b + C1) * (variances + C2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::stats::Random;

    fn noise(n: usize) -> Vec<u8> {
        let mut random = Random::default();
        (0..n).map(|_| random.number() as u8).collect()
    }

    #[test]
    fn the_same_picture_is_the_best_there_is() {
        let mut quality = Quality::default();
        assert_eq!((quality.ssim(), quality.psnr_db()), (None, None));
        let plane = noise(64 * 48);
        quality.add(&plane, &plane, 64);
        assert_eq!((quality.ssim(), quality.psnr_db(), quality.pictures), (Some(1.0), None, 1));
    }

    #[test]
    fn errors_count_as_they_are_defined() {
        let mut quality = Quality::default();
        let flat = vec![100; 64 * 48];
        let off: Vec<u8> = flat.iter().map(|x| x + 5).collect();
        quality.add(&flat, &off, 64);
        // 20·log10(255/5); flat windows differ in their means alone.
        assert!((quality.psnr_db().unwrap() - 34.151).abs() < 0.001);
        let means = (2.0 * 100.0 * 105.0 + 6.5025) / (100.0f64.powi(2) + 105.0f64.powi(2) + 6.5025);
        assert!((quality.ssim().unwrap() - means).abs() < 1e-9);
    }

    #[test]
    fn what_has_nothing_in_common_is_near_zero() {
        let both = noise(2 * 64 * 64);
        let (a, b) = both.split_at(64 * 64);
        let mut quality = Quality::default();
        quality.add(a, b, 64);
        assert!(quality.ssim().unwrap().abs() < 0.1, "{:?}", quality.ssim());
    }
}
