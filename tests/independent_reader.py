"""independent_reader.py STORE KEYFILE OUTDIR (passphrase: first line of standard input): restore a
sealed MotionGear store, written from store-format.md alone. An image gets its name only when the
bytes read were the sealed ones; compare root and device yourself. Left out: what no image hangs on
(canary, files/, notes, limits, most fields), index and trailer but for H, disks not complete."""

import array, base64, hashlib, hmac, json, os, re, stat, struct, sys
from typing import Any

from blake3 import blake3
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from zstandard import ZstdDecompressor, get_frame_parameters

SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
TRAILER, INDEX, CHECKPOINT = b"\xfd\xff\xff\xff", b"\xfe\xff\xff\xff", b"\xff\xff\xff\xff"
FRAMES = "5[1-4c]*c", "(7[8c]*|5[1-4c]*)c+", "5[1-4c]*6c+"  # kinds and (c)heckpoints, by state
ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


class Refused(Exception): ...  # the store, the key or what it opens is not as it should be


def need(condition: object, message: str) -> None:
    if not condition:
        raise Refused(message)


def read(path: str, at: int = 0, size: int = (1 << 26) + 1) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        need(stat.S_ISREG(os.fstat(file.fileno()).st_mode), "not a regular file")
        file.seek(at)
        return file.read(size)


def parse(data: bytes) -> Any:
    value = json.loads(data, parse_float=Refused, parse_constant=Refused)
    need(ENCODER.encode(value).encode() == data and len(data) <= 1 << 26, "JSON is not canonical")
    return value


def text(context: str, data: bytes, size: int = 32) -> str:
    digest = blake3(data, derive_key_context="motiongear/1 " + context).digest(size)
    return "-".join(re.findall("[A-Z2-7]{1,4}", base64.b32encode(digest).decode()))


class Pack:  # a pack that has the sealed size and hash, and a head that belongs to the store
    def __init__(self, path: str, prefix: bytes, step: int, end: int, entry: Any) -> None:
        self.path, self.entry, self.id = f"{path}/packs/{entry['id']}.pack", entry, entry["id"]
        whole, self.offsets, size = blake3(), array.array("Q"), os.path.getsize(self.path)
        for at in range(0, size, 1 << 20):
            whole.update(read(self.path, at, 1 << 20))
        need((whole.hexdigest(), size) == (entry["blake3"], entry["size"]), f"pack {self.id}")
        self.head = read(self.path, 0, end + -end % 4096)
        own, *self.place, block, self.start = struct.unpack_from("<80s16s4IQ", self.head)
        self.state, own = read(self.path, size - 4080)[0], own == prefix + bytes.fromhex(self.id)
        need(own and block == step and not any(self.head[end:]), "head of a pack")

    def open(self, at: int, number: int) -> tuple[Any, ...]:  # a record, checked by itself
        length = int.from_bytes(read(self.path, at, 4), "little")
        frame = read(self.path, at, 8 + min(length, 16781304))
        content = self.key.decrypt(number.to_bytes(12, "big"), frame[8:], frame[:8])
        head = struct.unpack_from("<BBHIIIQQ32s16s", content)
        kind, codec, _, plain, stored, aim, index, count, digest, target = head
        payload, padding = content[80 : 80 + stored], content[80 + stored :]
        need(len(frame) == -(-(104 + stored) // 4096) * 4096 and not any(padding), "padding")
        need(frame[4:8] == number.to_bytes(4, "little") and number < 1 << 18, "record number")
        if codec:
            zstd = get_frame_parameters(payload)
            need((codec, zstd.dict_id, payload[:4]) == (1, 0, b"\x28\xb5\x2f\xfd"), "codec")
            need(zstd.content_size == plain <= 1 << 24 >= zstd.window_size, "zstd")
            payload = ZstdDecompressor().decompress(payload, allow_extra_data=False)
        need(count == (kind < 3) if kind not in (3, 4) else count > 0, "count of a record")
        hashed = {2: digest, 3: bytes(32)}.get(kind) or blake3(payload).digest()
        need((hashed, len(payload)) == (digest, plain * (kind != 2)), "digest of a record")
        return frame, kind, plain, aim, index, count, digest, target.hex(), payload

    def records(self, private: hpke.MLKEM768X25519PrivateKey, wrap: int) -> Any:  # front to back
        salt, sealed = blake3(self.head[:120]).digest(), self.head[152 + 1168 * wrap :][:1168]
        prk = SUITE.decrypt(sealed, private, b"motiongear/1 wrap" + salt)
        prk = hmac.digest(salt, prk, "sha256")  # HKDF: extract, then expand to one block
        need(hmac.digest(prk, b"motiongear/1 commitment\1", "sha256") == self.head[120:152], "key")
        self.key = AESGCM(hmac.digest(prk, b"motiongear/1 record\1", "sha256"))
        done, at, self.cursor, count, frames = blake3(self.head), len(self.head), self.start, 0, ""
        while (tag := read(self.path, at, 4)) not in (INDEX, TRAILER):
            if tag == CHECKPOINT:
                frame, kind = read(self.path, at, 4096), "c"
                want = struct.pack("<I8sQ", count, b"MGCHECK1", self.cursor) + done.digest()
                need(frame[4:56] == want and not any(frame[88:]), "checkpoint")
            else:
                frame, kind, _, _, index, blocks, *_ = record = self.open(at, count)
                need(kind > 3 or index == self.cursor, "gap or overlap of blocks")
                self.cursor += blocks * (kind < 4)
                self.offsets.append(at)
                yield record
            done.update(frame)
            frames, at, count = f"{frames}{kind}", at + len(frame), len(self.offsets)
        done.update(tail := read(self.path, at, 1 << 25))
        index = blake3(tail[:-4096]).hexdigest() if self.state else ""
        end = {"blake3": done.hexdigest(), "records": len(self.offsets), "index": index}
        need(self.entry | end == self.entry and re.fullmatch(FRAMES[self.state], frames), "end")


def restore(packs: list[Pack], access: Any, step: int, out: int) -> dict[str, Any]:
    bad: dict[int, list[tuple[int, int]]] = {}
    ids, run, place, state, cursor, size = [pack.id for pack in packs], -1, 0, 0, 0, 0
    for pack in packs:
        after = [[run + 1, 0], [run, place + 1]][: (1, 2, 0)[state]]
        (disk, point, run, place), state = pack.place, pack.state
        need([run, place] in after and pack.start in (cursor, place and cursor), "order of packs")
        for _, kind, plain, aim, index, count, digest, target, payload in pack.records(*access):
            if kind == 5:
                facts = parse(payload)
                size = size or facts["size"]
                need(facts | {"disk": disk.hex(), "point": point, "size": size} == facts, "disk")
                blocks = -(-size // step)
                os.truncate(out, size)
            elif kind == 6:
                need(parse(payload).items() >= {"blocks": blocks, "packs": ids}.items(), "end")
            elif kind == 4:
                low, high = index * step, min((index + count) * step, size)
                need(pack.start <= index <= index + count <= pack.cursor, "blocks of a run")
                for a, length in struct.iter_unpack("<QQ", payload):
                    need(low <= a < a + length <= high, "unreadable run")
                    low = a + length
                    for i in range(a // step, -(-low // step)):
                        bad.setdefault(i, []).append((max(a, i * step), min(low, i * step + step)))
            elif kind == 2:
                source = next(p for p in packs if p.id == target and (p is pack or p.state))
                *_, payload = found = source.open(source.offsets[aim], aim)
                need((found[1], found[2], found[6]) == (1, plain, digest), "reference")
            for i in range(index, index + count * (kind < 4)):
                data = payload if kind < 3 else bytes(max(0, min(step, size - i * step)))
                need(0 < len(data) == min(step, size - i * step), "length of a block")
                bad.pop(i, None)
                if data != os.pread(out, len(data), i * step):
                    need(os.pwrite(out, data, i * step) == len(data), "cannot write")
        cursor = pack.cursor
    need(state == 2 and cursor == blocks, "the disk is not complete")
    whole, about = blake3(), packs[0].head[80:100] + struct.pack("<IQ", step, size)
    root = blake3(about, derive_key_context="motiongear/1 manifest root")
    for first in range(0, blocks, 4096):
        page = blake3(derive_key_context="motiongear/1 manifest page")
        for i in range(first, min(first + 4096, blocks)):
            whole.update(data := os.pread(out, step, i * step))
            status = 3 if i in bad else 1 if data.count(0) < len(data) else 2
            page.update(blake3(data).digest() + status.to_bytes(8, "little"))
        root.update(page.digest())
    parts = sorted({(start, end - start) for block in bad.values() for start, end in block})
    result = {"disk": disk.hex(), "point": point, "size": size, "blake3": whole.hexdigest()}
    return result | {"manifest_root": root.hexdigest(), "unreadable": parts}


def main() -> None:
    path, keyfile, folder = sys.argv[1:]
    raw = read(f"{path}/head.json")
    head, seal = parse(raw), parse(read(f"{path}/seal.json"))
    body, step, device = seal["seal"], head["block_size"], bytes.fromhex(head["device"])
    data, sig = ENCODER.encode(body).encode(), bytes.fromhex(seal["signature"])
    ed25519.Ed25519PublicKey.from_public_bytes(device).verify(sig, b"motiongear/1 seal\0" + data)
    need(seal == {"seal": body, "signature": sig.hex()}, "form of seal.json")
    need(head | {"format": "motiongear-store", "version": 1, "features": []} == head, "head.json")
    need(head["features_inside"] == body["features"] == [], "unknown feature")
    keys = [base64.b64decode(recipient["key"]) for recipient in head["recipients"]]
    same = {"shipment": head["shipment"], "device": device.hex(), "head": blake3(raw).hexdigest()}
    same |= {"recipients": [text("fingerprint", key, 20) for key in keys], "version": 1}
    need(body | same | {"format": "motiongear-seal"} == body, "seal.json is not for head.json")
    need({e["id"] + ".pack" for e in body["packs"]} == set(os.listdir(path + "/packs")), "packs/")
    end, names = 152 + 1168 * len(keys), bytes.fromhex(head["shipment"] + body["head"])
    prefix = struct.pack("<8sII", b"MGPACK1\n", end + -end % 4096, len(keys)) + names
    first, *rest = packs = [Pack(path, prefix, step, end, entry) for entry in body["packs"]]
    need([p.place for p in packs] == sorted(p.place for p in packs), "order of packs in the seal")
    print(json.dumps({"root": text("seal root", data), "device": text("fingerprint", device, 20)}))
    key = parse(read(keyfile))
    box, nonce, salt = map(base64.b64decode, (key.pop("cipher"), key["nonce"], key["kdf"]["salt"]))
    memory, rounds, lanes = (key["kdf"][name] for name in ("memory_kib", "iterations", "lanes"))
    need(8192 <= memory <= 1 << 20 and 1 <= rounds <= 16 and 1 <= lanes <= 16, "cost of the key")
    kdf = Argon2id(salt=salt, length=32, iterations=rounds, lanes=lanes, memory_cost=memory)
    aes = AESGCM(kdf.derive(sys.stdin.buffer.readline().removesuffix(b"\n")))
    seeds = hashlib.shake_256(aes.decrypt(nonce, box, ENCODER.encode(key).encode())).digest(96)
    kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(seeds[:64])
    curve = x25519.X25519PrivateKey.from_private_bytes(seeds[64:])
    public = kem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
    access = hpke.MLKEM768X25519PrivateKey(kem, curve), keys.index(public)
    by_id, [(*_, payload), *_] = {pack.id: pack for pack in rest}, first.records(*access)
    for entry in parse(payload)["disks"]:
        group, named = [by_id.pop(i) for i in entry["packs"]], (entry["disk"], entry["point"])
        need({(p.place[0].hex(), p.place[1]) for p in group} <= {named}, "packs of a disk")
        if entry["state"] == "complete":
            name = f"{folder}/{group[0].place[0].hex()}-{group[0].place[1]}"
            out = os.open(name + ".part", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            print(json.dumps(restore(group, access, step, out)))
            os.rename(name + ".part", name + ".img")
    need(not by_id and first.id == body["contents"], "contents pack")


if __name__ == "__main__":
    sys.excepthook = lambda _, error, __: sys.stderr.write(f"refused: {error!a:.200}\n")
    main()
