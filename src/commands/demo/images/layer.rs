//! Layers as tools unpack them: a tar archive (POSIX ustar) in a gzip frame (RFC 1952).
//!
//! Written here, and stored rather than deflated, so that the same image has the same digest on every machine and with
//! every version of a library.

/// A file of a layer.
pub(super) struct File<'a> {
    /// Relative to the root, with less than 100 bytes.
    pub(super) path: &'a str,
    pub(super) executable: bool,
    pub(super) bytes: Vec<u8>,
}

/// The archive of `files`, and of the folders that they lie in.
pub(super) fn tar(files: &[File<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut folders = Vec::new();
    for file in files {
        for (end, _) in file.path.match_indices('/') {
            let folder = &file.path[..=end];
            if !folders.contains(&folder) {
                folders.push(folder);
                archive.extend(header(folder, 0o755, b'5', 0));
            }
        }
        let mode = if file.executable { 0o755 } else { 0o644 };
        archive.extend(header(file.path, mode, b'0', file.bytes.len()));
        archive.extend(&file.bytes);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    // Two empty blocks end it.
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn header(path: &str, mode: u32, kind: u8, size: usize) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"00000000000");
    // The checksum is computed with spaces in its own field.
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// `bytes` in a gzip frame, in blocks of the kind that isn't compressed.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    const LONGEST: usize = 0xffff;
    // Deflate, no flags, no time, from an unknown system.
    let mut frame = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let blocks = bytes.len().div_ceil(LONGEST).max(1);
    for number in 0..blocks {
        let block = &bytes[number * LONGEST..bytes.len().min((number + 1) * LONGEST)];
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        frame.push(u8::from(number + 1 == blocks));
        frame.extend(length.to_le_bytes());
        frame.extend((!length).to_le_bytes());
        frame.extend(block);
    }
    frame.extend(crc32(bytes).to_le_bytes());
    let length = u32::try_from(bytes.len() & 0xffff_ffff).unwrap_or(u32::MAX);
    frame.extend(length.to_le_bytes());
    frame
}

fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|index| {
        let byte = u32::try_from(index).unwrap_or_default();
        (0..8).fold(byte, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    });
    !bytes.iter().fold(!0, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ table[usize::from(low ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_32_gives_the_standard_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
