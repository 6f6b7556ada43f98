//! Numbers of pickle instructions. Those with a constant are known to the machine, but for the last two.

pub(super) const PROTO: u8 = 0x80;
pub(super) const STOP: u8 = b'.';
pub(super) const MARK: u8 = b'(';
pub(super) const NONE: u8 = b'N';
pub(super) const NEWTRUE: u8 = 0x88;
pub(super) const NEWFALSE: u8 = 0x89;
pub(super) const BININT: u8 = b'J';
pub(super) const BININT1: u8 = b'K';
pub(super) const BININT2: u8 = b'M';
pub(super) const LONG1: u8 = 0x8a;
pub(super) const BINFLOAT: u8 = b'G';
pub(super) const BINUNICODE: u8 = b'X';
pub(super) const EMPTY_TUPLE: u8 = b')';
pub(super) const TUPLE1: u8 = 0x85;
pub(super) const TUPLE2: u8 = 0x86;
pub(super) const TUPLE3: u8 = 0x87;
pub(super) const TUPLE: u8 = b't';
pub(super) const EMPTY_LIST: u8 = b']';
pub(super) const APPEND: u8 = b'a';
pub(super) const APPENDS: u8 = b'e';
pub(super) const EMPTY_DICT: u8 = b'}';
pub(super) const SETITEM: u8 = b's';
pub(super) const SETITEMS: u8 = b'u';
pub(super) const BINPUT: u8 = b'q';
pub(super) const LONG_BINPUT: u8 = b'r';
pub(super) const BINGET: u8 = b'h';
pub(super) const LONG_BINGET: u8 = b'j';
pub(super) const GLOBAL: u8 = b'c';
pub(super) const REDUCE: u8 = b'R';
pub(super) const BUILD: u8 = b'b';
pub(super) const BINPERSID: u8 = b'Q';
// Refused; they name what they want to build.
pub(super) const INST: u8 = b'i';
pub(super) const STACK_GLOBAL: u8 = 0x93;

/// Every instruction of protocols 0 to 5, by the names of Python's `pickletools`.
const NAMES: [(u8, &str); 68] = [
    (PROTO, "PROTO"),
    (STOP, "STOP"),
    (MARK, "MARK"),
    (NONE, "NONE"),
    (NEWTRUE, "NEWTRUE"),
    (NEWFALSE, "NEWFALSE"),
    (BININT, "BININT"),
    (BININT1, "BININT1"),
    (BININT2, "BININT2"),
    (LONG1, "LONG1"),
    (BINFLOAT, "BINFLOAT"),
    (BINUNICODE, "BINUNICODE"),
    (EMPTY_TUPLE, "EMPTY_TUPLE"),
    (TUPLE1, "TUPLE1"),
    (TUPLE2, "TUPLE2"),
    (TUPLE3, "TUPLE3"),
    (TUPLE, "TUPLE"),
    (EMPTY_LIST, "EMPTY_LIST"),
    (APPEND, "APPEND"),
    (APPENDS, "APPENDS"),
    (EMPTY_DICT, "EMPTY_DICT"),
    (SETITEM, "SETITEM"),
    (SETITEMS, "SETITEMS"),
    (BINPUT, "BINPUT"),
    (LONG_BINPUT, "LONG_BINPUT"),
    (BINGET, "BINGET"),
    (LONG_BINGET, "LONG_BINGET"),
    (GLOBAL, "GLOBAL"),
    (REDUCE, "REDUCE"),
    (BUILD, "BUILD"),
    (BINPERSID, "BINPERSID"),
    (INST, "INST"),
    (STACK_GLOBAL, "STACK_GLOBAL"),
    (b'I', "INT"),
    (b'L', "LONG"),
    (b'F', "FLOAT"),
    (b'S', "STRING"),
    (b'T', "BINSTRING"),
    (b'U', "SHORT_BINSTRING"),
    (b'V', "UNICODE"),
    (b'B', "BINBYTES"),
    (b'C', "SHORT_BINBYTES"),
    (b'P', "PERSID"),
    (b'd', "DICT"),
    (b'l', "LIST"),
    (b'o', "OBJ"),
    (b'p', "PUT"),
    (b'g', "GET"),
    (b'0', "POP"),
    (b'1', "POP_MARK"),
    (b'2', "DUP"),
    (0x81, "NEWOBJ"),
    (0x82, "EXT1"),
    (0x83, "EXT2"),
    (0x84, "EXT4"),
    (0x8b, "LONG4"),
    (0x8c, "SHORT_BINUNICODE"),
    (0x8d, "BINUNICODE8"),
    (0x8e, "BINBYTES8"),
    (0x8f, "EMPTY_SET"),
    (0x90, "ADDITEMS"),
    (0x91, "FROZENSET"),
    (0x92, "NEWOBJ_EX"),
    (0x94, "MEMOIZE"),
    (0x95, "FRAME"),
    (0x96, "BYTEARRAY8"),
    (0x97, "NEXT_BUFFER"),
    (0x98, "READONLY_BUFFER"),
];

/// For messages: the instruction's name, or its number if it has none.
pub(super) fn name(opcode: u8) -> String {
    let known = NAMES.iter().find(|row| row.0 == opcode);
    known.map_or_else(|| format!("the unknown instruction {opcode:#04x}"), |row| row.1.into())
}
