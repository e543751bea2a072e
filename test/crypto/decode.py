"""Opens what effect-stores has sealed, by docs/formats.md alone: the standard library, and AES-GCM from libcrypto.

Reads one JSON document per line from standard input and writes one line for each:
  {"format": "R1", "key": hex, "context": {field: text or number}, "sealed": base64url} -> {"plaintext": hex}
  {"format": "O1", "key": hex, "context": {...}, "sealed": base64url} -> {"plaintext": hex}
What does not open gives {"error": reason}.
"""
import base64
import ctypes
import ctypes.util
import hashlib
import hmac
import json
import sys

crypto = ctypes.CDLL(ctypes.util.find_library("crypto"))
crypto.EVP_CIPHER_CTX_new.restype = ctypes.c_void_p
crypto.EVP_aes_256_gcm.restype = ctypes.c_void_p
SET_IV_LENGTH, SET_TAG = 0x9, 0x11


def gcm_open(key, nonce, aad, ciphertext, tag):
    """AES-256-GCM with a nonce of 12 bytes; None when the tag does not fit."""
    context = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
    out, length = ctypes.create_string_buffer(len(ciphertext) + 16), ctypes.c_int(0)
    try:
        cipher = ctypes.c_void_p(crypto.EVP_aes_256_gcm())
        crypto.EVP_DecryptInit_ex(context, cipher, None, None, None)
        crypto.EVP_CIPHER_CTX_ctrl(context, SET_IV_LENGTH, len(nonce), None)
        crypto.EVP_DecryptInit_ex(context, None, None, key, nonce)
        crypto.EVP_DecryptUpdate(context, None, ctypes.byref(length), aad, len(aad))
        crypto.EVP_DecryptUpdate(context, out, ctypes.byref(length), ciphertext, len(ciphertext))
        written = length.value
        crypto.EVP_CIPHER_CTX_ctrl(context, SET_TAG, len(tag), tag)
        if crypto.EVP_DecryptFinal_ex(context, ctypes.byref(out, written), ctypes.byref(length)) != 1:
            return None
        return out.raw[:written]
    finally:
        crypto.EVP_CIPHER_CTX_free(context)


TAGS = {
    "kind": 1, "store": 2, "tenant": 3, "domain": 4, "id": 5, "version": 6, "event": 7, "type": 8, "field": 9,
    "schemaVersion": 10, "mark": 11, "status": 12, "key": 13, "expires": 14, "bucket": 15, "object": 16,
    "metadata": 17, "subject": 18, "purpose": 19, "write": 20,
}


def context_bytes(fields):
    out = b"\x01"
    for name in sorted(fields, key=TAGS.__getitem__):
        value = fields[name]
        data = value.to_bytes(8, "big") if isinstance(value, int) else value.encode("utf-8")
        out += bytes([TAGS[name]]) + len(data).to_bytes(4, "big") + data
    return out


def derived(key, label, head):
    block = hmac.new(key, label + head + b"\x01", hashlib.sha512).digest()
    return block[:32], block[32:]


def open_record(key, context, data):
    if len(data) < 84:
        raise ValueError("truncated")
    if data[0] != 0xFE or data[1] != 1 or data[2] != 1 or data[3] & ~2:
        raise ValueError("unsupported")
    message_key, commitment = derived(key, b"effect-stores R1", data[:36])
    if not hmac.compare_digest(commitment, data[36:68]):
        raise ValueError("wrong key")
    plaintext = gcm_open(message_key, data[24:36], data[:68] + context, data[68:-16], data[-16:])
    if plaintext is None:
        raise ValueError("tampered")
    return plaintext


def open_object(key, context, data):
    if len(data) < 266:
        raise ValueError("truncated")
    header, body = data[:192], data[192:]
    if header[:8] != b"\x89FSO1\r\n\x1a" or header[8] != 1 or header[9] != 1 or any(header[140:]):
        raise ValueError("unsupported")
    wrapping_key, commitment = derived(key, b"effect-stores O1", header[:60])
    if not hmac.compare_digest(commitment, header[60:92]):
        raise ValueError("wrong key")
    object_key = gcm_open(wrapping_key, header[48:60], header[:92] + context, header[92:124], header[124:140])
    if object_key is None:
        raise ValueError("tampered")
    return open_floe(object_key, b"effect-stores O1 body" + header[20:36], body)


def open_floe(key, aad, data):
    def kdf(secret, purpose, length):
        return hmac.new(secret, data[:42] + purpose + aad + b"\x01", hashlib.sha384).digest()[:length]

    if not hmac.compare_digest(kdf(key, b"HEADER_TAG:", 32), data[42:74]):
        raise ValueError("tampered header")
    message_key = kdf(key, b"MESSAGE_KEY:", 48)
    size, at, position, out = int.from_bytes(data[2:6], "big"), 74, 0, b""
    while True:
        if at + 4 > len(data):
            raise ValueError("truncated")
        marked = int.from_bytes(data[at:at + 4], "big")
        last = marked != 0xFFFFFFFF
        segment = data[at:at + (marked if last else size)]
        epoch = position >> 20 << 20
        segment_key = kdf(message_key, b"DEK:" + epoch.to_bytes(8, "big"), 32)
        aad_of_segment = position.to_bytes(8, "big") + (b"\x01" if last else b"\x00")
        plaintext = gcm_open(segment_key, segment[4:16], aad_of_segment, segment[16:-16], segment[-16:])
        if plaintext is None:
            raise ValueError("tampered segment")
        out, at, position = out + plaintext, at + len(segment), position + 1
        if last:
            break
    if at != len(data):
        raise ValueError("trailing")
    return out


def main():
    for line in sys.stdin:
        item = json.loads(line)
        key, context = bytes.fromhex(item["key"]), context_bytes(item["context"])
        sealed = base64.urlsafe_b64decode(item["sealed"] + "=" * (-len(item["sealed"]) % 4))
        try:
            opened = {"R1": open_record, "O1": open_object}[item["format"]](key, context, sealed)
            print(json.dumps({"plaintext": opened.hex()}))
        except ValueError as error:
            print(json.dumps({"error": str(error)}))


main()
