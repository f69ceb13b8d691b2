"""Lines as ``tegrastats`` printed them, by board and release, and what a reader makes of them.

The lines are public examples of the tool's output; rails, totals and temperatures were written down
by hand beside them, apart from the parser.
"""

from __future__ import annotations

LINES = {
    "nano_r32": "RAM 613/3964MB (lfb 634x4MB) SWAP 0/1982MB (cached 0MB) CPU [2%@102,1%@102,0%@102,0%@102] EMC_FREQ 0% GR3D_FREQ 0% PLL@39C CPU@40.5C PMIC@100C GPU@41C AO@46C thermal@41C POM_5V_IN 900/943 POM_5V_GPU 0/0 POM_5V_CPU 123/123",  # noqa: E501
    "tx2": "RAM 1345/7829MB (lfb 1290x4MB) SWAP 0/512MB (cached 0MB) CPU [2%@345,off,off,off,off,off] EMC_FREQ 13%@40 GR3D_FREQ 0%@114 APE 150 BCPU@35C MCPU@35C GPU@41C PLL@35C AO@35.5C Tboard@35C Tdiode@36C PMIC@100C thermal@35.5C VDD_IN 2003/2658 VDD_CPU 320/518 VDD_GPU 400/735 VDD_SOC 400/415 VDD_WIFI 0/0 VDD_DDR 240/348",  # noqa: E501
    "agx_xavier_r32": "RAM 1903/15692MB (lfb 3251x4MB) CPU [1%@1190,1%@1190,2%@1190,0%@1190,0%@1190,0%@1190,0%@1190,0%@1190] EMC_FREQ 0% GR3D_FREQ 0% AO@32.5C GPU@32C Tboard@32C Tdiode@34.75C AUX@31.5C CPU@33.5C thermal@32.9C PMIC@100C GPU 0/0 CPU 216/216 SOC 864/864 CV 0/0 VDDRQ 144/144 SYS5V 1889/1889",  # noqa: E501
    "agx_orin_jp5": "04-24-2023 00:01:24 RAM 1282/62795MB (lfb 15152x4MB) SWAP 0/31398MB (cached 0MB) CPU [0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@0 GR3D2_FREQ 0%@0 VIC_FREQ 729 APE 174 CV0@-256C CPU@42.593C Tboard@32C SOC2@39.343C Tdiode@33.25C SOC0@39.375C CV1@-256C GPU@-256C tj@42.593C SOC1@40.468C CV2@-256C VDD_GPU_SOC 2399mW/2399mW VDD_CPU_CV 400mW/400mW VIN_SYS_5V0 4032mW/4032mW NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW",  # noqa: E501
    "orin_nano_jp6": "11-15-2024 08:38:09 RAM 6185/7620MB (lfb 8x2MB) SWAP 851/3810MB (cached 1MB) CPU [15%@729,11%@729,14%@729,13%@729,11%@729,8%@729] EMC_FREQ 43%@2133 GR3D_FREQ 63%@[621] NVDEC off NVJPG off NVJPG1 off VIC off OFA off APE 200 cpu@53.968C soc2@52.437C soc0@50.75C gpu@53.343C tj@53.968C soc1@51.656C VDD_IN 12479mW/12479mW VDD_CPU_GPU_CV 4667mW/4667mW VDD_SOC 2817mW/2817mW",  # noqa: E501
    "agx_orin_jp7": "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201,4%@2201,14%@2201,30%@2201,18%@2201,10%@2201,10%@2201,33%@2201,7%@2201,5%@2201,27%@2201] EMC_FREQ 3%@3199 GR3D_FREQ 12%@[1300,1300] NVENC0 off NVDEC0 off NVJPG0 off NVJPG1 off VIC off OFA off NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174 cpu@52.968C/52.968C soc2@48.406C/48.406C soc0@49.531C/49.531C gpu@47.625C/47.625C VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW VIN_SYS_5V0 5500mW/5500mW/5500mW",  # noqa: E501
    "thor": "RAM 4722/7844MB (lfb 1x512kB) EMC_FREQ 2%@1866 GR3D_FREQ @[1000,1000,1000] APE 150",
    "agx_orin_3val": "... GR3D_FREQ 0% cpu@47.906C/48.343C ... VDD_GPU_SOC 3034mW/3049mW/3412mW VDD_CPU_CV 1137mW/1296mW/2273mW VIN_SYS_5V0 4939mW/4924mW/5040mW",  # noqa: E501
}

RAILS: dict[str, list[tuple[str, int, int]]] = {
    "nano_r32": [("POM_5V_IN", 900, 943), ("POM_5V_GPU", 0, 0), ("POM_5V_CPU", 123, 123)],
    "tx2": [
        ("VDD_IN", 2003, 2658), ("VDD_CPU", 320, 518), ("VDD_GPU", 400, 735),
        ("VDD_SOC", 400, 415), ("VDD_WIFI", 0, 0), ("VDD_DDR", 240, 348),
    ],
    "agx_xavier_r32": [
        ("GPU", 0, 0), ("CPU", 216, 216), ("SOC", 864, 864), ("CV", 0, 0), ("VDDRQ", 144, 144),
        ("SYS5V", 1889, 1889),
    ],
    "agx_orin_jp5": [
        ("VDD_GPU_SOC", 2399, 2399), ("VDD_CPU_CV", 400, 400), ("VIN_SYS_5V0", 4032, 4032),
        ("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 301, 301), ("NC", 0, 0),
    ],
    "orin_nano_jp6": [
        ("VDD_IN", 12479, 12479), ("VDD_CPU_GPU_CV", 4667, 4667), ("VDD_SOC", 2817, 2817),
    ],
    "agx_orin_jp7": [
        ("VDD_GPU_SOC", 5139, 5139), ("VDD_CPU_CV", 3268, 3268), ("VIN_SYS_5V0", 5500, 5500),
    ],
    "thor": [],
    "agx_orin_3val": [
        ("VDD_GPU_SOC", 3034, 3049), ("VDD_CPU_CV", 1137, 1296), ("VIN_SYS_5V0", 4939, 4924),
    ],
}  # fmt: skip

TOTAL_MW = {
    "nano_r32": 900, "tx2": 2003, "agx_xavier_r32": 3113, "agx_orin_jp5": 6831,
    "orin_nano_jp6": 12479, "agx_orin_jp7": 13907, "thor": None, "agx_orin_3val": 9110,
}  # fmt: skip

GPU = {  # percent, MHz
    "nano_r32": (0, None), "tx2": (0, 114), "agx_xavier_r32": (0, None), "agx_orin_jp5": (0, 0),
    "orin_nano_jp6": (63, 621), "agx_orin_jp7": (12, 1300), "thor": (None, 1000),
    "agx_orin_3val": (0, None),
}  # fmt: skip

HOTTEST_C = {
    "nano_r32": 100.0, "tx2": 100.0, "agx_xavier_r32": 100.0, "agx_orin_jp5": 42.593,
    "orin_nano_jp6": 53.968, "agx_orin_jp7": 52.968, "thor": None, "agx_orin_3val": 47.906,
}  # fmt: skip
