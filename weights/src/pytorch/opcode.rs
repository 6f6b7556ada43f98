//! Numbers and names of pickle's instructions, protocols 0 to 5, by the names of Python's `pickletools`.

/// A constant for each instruction, and the table of their names.
macro_rules! instructions {
    ($($name:ident = $number:literal,)*) => {
        $(pub(super) const $name: u8 = $number;)*
        const NAMES: &[(u8, &str)] = &[$(($name, stringify!($name)),)*];
    };
}

instructions! {
    PROTO = 0x80,
    STOP = b'.',
    MARK = b'(',
    NONE = b'N',
    NEWTRUE = 0x88,
    NEWFALSE = 0x89,
    BININT = b'J',
    BININT1 = b'K',
    BININT2 = b'M',
    LONG1 = 0x8a,
    BINFLOAT = b'G',
    BINUNICODE = b'X',
    EMPTY_TUPLE = b')',
    TUPLE1 = 0x85,
    TUPLE2 = 0x86,
    TUPLE3 = 0x87,
    TUPLE = b't',
    EMPTY_LIST = b']',
    APPEND = b'a',
    APPENDS = b'e',
    EMPTY_DICT = b'}',
    SETITEM = b's',
    SETITEMS = b'u',
    BINPUT = b'q',
    LONG_BINPUT = b'r',
    BINGET = b'h',
    LONG_BINGET = b'j',
    GLOBAL = b'c',
    REDUCE = b'R',
    BUILD = b'b',
    BINPERSID = b'Q',
    INST = b'i',
    STACK_GLOBAL = 0x93,
    INT = b'I',
    LONG = b'L',
    FLOAT = b'F',
    STRING = b'S',
    BINSTRING = b'T',
    SHORT_BINSTRING = b'U',
    UNICODE = b'V',
    BINBYTES = b'B',
    SHORT_BINBYTES = b'C',
    DICT = b'd',
    LIST = b'l',
    OBJ = b'o',
    PUT = b'p',
    GET = b'g',
    POP = b'0',
    POP_MARK = b'1',
    DUP = b'2',
    NEWOBJ = 0x81,
    EXT1 = 0x82,
    EXT2 = 0x83,
    EXT4 = 0x84,
    LONG4 = 0x8b,
    SHORT_BINUNICODE = 0x8c,
    BINUNICODE8 = 0x8d,
    BINBYTES8 = 0x8e,
    EMPTY_SET = 0x8f,
    ADDITEMS = 0x90,
    FROZENSET = 0x91,
    NEWOBJ_EX = 0x92,
    MEMOIZE = 0x94,
    FRAME = 0x95,
    BYTEARRAY8 = 0x96,
}

/// They refer to what is outside of the pickle, by other ways than torch.save's.
const REFUSED: [(u8, &str); 3] = [(b'P', "PERSID"), (0x97, "NEXT_BUFFER"), (0x98, "READONLY_BUFFER")];

/// For messages: the instruction's name, or its number if it has none.
pub(super) fn name(opcode: u8) -> String {
    let known = NAMES.iter().chain(&REFUSED).find(|row| row.0 == opcode);
    known.map_or_else(|| format!("the unknown instruction {opcode:#04x}"), |row| row.1.into())
}
