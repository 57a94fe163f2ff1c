//! The program in the demo's images: a static Linux executable that prints one line, so that a mirrored image can run.

/// Where it is loaded.
const BASE: u64 = 0x40_0000;

/// The headers of a 64-bit ELF file with one segment.
const HEADERS: u64 = 64 + 56;

/// The program for this architecture, `amd64` or `arm64`; it prints `line`, which is shorter than 128 bytes.
pub(super) fn printing(architecture: &str, line: &str) -> Vec<u8> {
    let length = u8::try_from(line.len()).unwrap_or(u8::MAX);
    let (machine, code) = match architecture {
        "arm64" => (183_u16, arm64(length)),
        _ => (62, amd64(length)),
    };
    let size = HEADERS + code.len() as u64 + line.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2, 0]);
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    // It begins behind the headers; the program header follows this one; there are no sections.
    for offset in [BASE + HEADERS, 64, 0] {
        file.extend(offset.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for count in [64_u16, 56, 1, 64, 0, 0] {
        file.extend(count.to_le_bytes());
    }
    // Loaded as a whole, to be read and executed.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, BASE, BASE, size, size, 0x1_0000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file.extend(line.as_bytes());
    file
}

/// `write(1, line, length)`, `exit(0)`; the line follows.
fn amd64(length: u8) -> Vec<u8> {
    let code = [
        &[0xb8, 1, 0, 0, 0][..],          // mov eax, 1
        &[0xbf, 1, 0, 0, 0],              // mov edi, 1
        &[0x48, 0x8d, 0x35, 16, 0, 0, 0], // lea rsi, [rip + 16]
        &[0xba, length, 0, 0, 0],         // mov edx, length
        &[0x0f, 0x05],                    // syscall
        &[0xb8, 60, 0, 0, 0, 0x31, 0xff], // mov eax, 60; xor edi, edi
        &[0x0f, 0x05],                    // syscall
    ];
    code.concat()
}

/// The same.
fn arm64(length: u8) -> Vec<u8> {
    let code = [
        0xd280_0020,                          // mov x0, #1
        0x1000_00e1,                          // adr x1, #28
        0xd280_0002 | u32::from(length) << 5, // mov x2, #length
        0xd280_0808,                          // mov x8, #64
        0xd400_0001,                          // svc #0
        0xd280_0000,                          // mov x0, #0
        0xd280_0ba8,                          // mov x8, #93
        0xd400_0001,                          // svc #0
    ];
    code.iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
}
