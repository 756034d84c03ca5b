"""Tiny media that the doctor makes itself: a picture of 64 x 64, and a video of two seconds."""

from __future__ import annotations

import base64
import struct
import zlib

SIDE = 64


def picture(seed: int) -> bytes:
    """Return a PNG; each seed gives another, so that nothing the account has is met again."""
    rows = b"".join(
        b"\0" + bytes(sample for column in range(SIDE) for sample in _pixel(row, column, seed))
        for row in range(SIDE)
    )
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + _chunk(b"IDAT", zlib.compress(rows, 9))
        + _chunk(b"IEND", b"")
    )


def video(seed: int) -> bytes:
    """Return an MP4 (H.264) in which a red bar grows; a box of free space holds the seed."""
    return zlib.decompress(base64.b85decode(_VIDEO)) + struct.pack(">I4sQ", 16, b"free", seed)


def _pixel(row: int, column: int, seed: int) -> tuple[int, int, int]:
    inside = (row - SIDE // 2) ** 2 + (column - SIDE // 2) ** 2 < (SIDE // 3) ** 2
    return (220, seed % 200, 40) if inside else (40, 120, (seed // 200) % 200)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_VIDEO = (
    "c-nncT}&KR6uz^7{1g>JRYcI+QUn_qW_Gvyg^?19@&HC3B()khcW3UhlbzX_ow>WPZAAP_ctNcXZKQ-"
    "%F^%;n5o>LDFtJLkHdcMGRE$Y&q7BugHmSz?VAgYYm$IPk&73*sp7Wh^?m2U21|ft)ENSbmWg_H3oCA4DLX}P1FC"
    "&CXLJp+}6)cz<VSt&tsVJRJ{n&r;;|t3J#}71rkC*E&{XXVx^Wzq*S`Ni>+YS&1L{PO3J>36biy!w6_km5LDj51K"
    "J894m!(K`9wRj~jM~4}+yINaEM@Pkku2IV%QPFZnT6tVC%uE9?md$i4>ULq31c|E1*r6dsZo?W48kQPS<gOMUT$n"
    "_Ok#wmdjrqEyG1=$CCRO5Q7`yQxNV0@&Hwo@=4>+3Q6(y-l65Azg>SI(3WTJvgz#-"
    "8Qs(Afa4Lg=e0^AofhZ=_NDqh?%)}g5kRBFsrBsc}p_F7SJkeg*0hltApwj0rHj>rax*#RpQaw$`wB`oZKhYME2v"
    "LYl5o4}gRHFTA(DI^?qGC5S;B#fU!k22~Q1VEq<8gYjt1FB`(guz~gHZh0jQ3wG*hj2{DAtrT|4jc^FNsx6Y9b}>"
    "rn`NY+PIx9wcPP~5!=qFm39}$1vuqj-j94~Uvq~ErA~XrHp`B7r448UU*@0b^MyVQSieJK+<h-"
    "K}b;IE8sDW$MDs6nPs7?r*L1-(l3O3*-N;t-"
    "AQ6v#CF`LKDa5AQ}b%NkBYAb%M+whEFCKOqOTqFh)Ad6lJO~BZ0rIXK~l9}|Mum1JN_zzd+5`Xu!o((=wm;UU{*i"
    "%~J;o`x1KyB}xE*Y9^oJsc=HOwvlw*62kJ=ng|Js4S7_%b#4Qfl8Tmp*;(#Q53qn#+K`S(vS8tZ(dDdc679Gsi%2"
    "SMPMiJD0I`iWK=$U!9!Vv+3Z(%fjh>)|~Jfm~ZW!t){!GzJB_<;qn*Xc;OMQ5@zw#7Y#G%6X&Kr6yb;n)$~qpxi9"
    "YVEDatO3Xi7xJAHL;ZN2?T;n;2G!CKWj+w}AP!YiryPg4Gw%3qpJ)@%ZGg)l2EPConCH%BkbpIRC^{u74^vvT<dr"
    "6WCWpZn-cM`!t=htT`*;?9_sl>oD0Cc+w8w+dDeD*hG;h+k_<SdZGc--"
    "&LxJaByuk39nN6D*R+S@7RzkQd!J&;RD#dF=q(sK#92wbXFgng@?tk@NN3Z)!RL0h`*!+M9rOqemAro0hO<II9-"
    "^0m?@X^AFMhiE0Mr7~vw!V+e%J2{RKk|CrmftgTjqq0cL$Jnk4cD+@<l7BoPfcbTi@VP5B7-"
    "Rrc17rhe=03Wz6V&ke#r{UfXQTqf9m8H+4J4b-"
    "O>lE&~_j&$I3i++6d*DFjgn){}D}B%H_g4LL^(uGX46kIatG6t!26S1b<E!b*;O~&ZLLvEjPP^4LY-v_kk+WClcu"
    "9`q+|;b@o6veZ%E#A2E_Fk$vK;RQ+upnefZlT&xCm4UbPs<?a&$M)9sKO8+-"
    "0hj7gqub#x=&LXOBrUoUbkUlLFJ_5ZgBLyWXN_$FboEvv|Nd_-&HaLIz19)aDgsxFqktK=#0i"
)
