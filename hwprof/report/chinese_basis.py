"""How is what predictions and servers rest on said in Chinese? As chinese_sentences.py; chinese.py puts them in."""

from __future__ import annotations

from collections.abc import Mapping

DEPLOY: Mapping[str, str] = {
    "first token": "首个 token",
    "a token": "每个 token",
    "one device": "单台",
    "cheapest": "最便宜",
    "smallest": "最小",
    "fastest": "最快",
    "nearest": "最接近",
    "first token {}, then {} each": "首个 token {}，其后每个 {}",
    "{} generate, {} train": "{} 台生成，{} 台训练",
    "  {} {} {} an iteration, idle {}, {} tokens/s": "  {} {} 每轮 {}，空闲 {}，{} token/s",
    "{} server{}": "{} 个服务器{}",
    "{} of {}, {} user{} each": "{}，布局 {}，每个 {} 用户{}",
    "a million tokens: {}, {}": "每百万 token：{}，{}",
    "{}, prompts of {} tokens, answers of {}": "{}，提示 {} token，回答 {} token",
    "{} further layouts were not simulated: their pipelines have too many passes": (
        "另有 {} 个布局未模拟：流水线的遍数太多"
    ),
    "it takes {} devices, there are {}": "需要 {} 台，只有 {} 台",
    "slower than the goals: at best the first token after {}, or {} a token": (
        "比目标慢：最快首个 token {}，每个 token {}"
    ),
    "one server of the first, {} requests one by one ({})": "第一种的一个服务器，逐个模拟 {} 个请求（{}）",
    "; the far end of an interval does not keep to the goals": "；区间的远端不满足目标",
    "first token  {}  ({})": "首个 token  {}（{}）",
    "a token      {}  ({}){}": "每个 token  {}（{}）{}",
    "throughput   {} tokens/s, {} of each device; {}": "吞吐量      {} token/s，每台 {}；{}",
    "with a trainer": "与训练共用",
    "beaten by none: users, tokens/s of a user, tokens/s of a device": (
        "没有其他能超过的：用户数、每用户 token/s、每台 token/s"
    ),
    "no server can be laid out so": "没有这样的服务器布局",
    "{} mean {}, median {}, 90 % below {}, 99 % below {}": "{} 平均 {}，中位数 {}，90 % 低于 {}，99 % 低于 {}",
    "not: {}: {} ({})": "不行：{}：{}（{}）",
    "not one sequence fits beside the weights on {}": "{} 上权重之外放不下一条序列",
    "the weights do not fit {}": "权重放不进 {}",
    "more users than the cache has room for": "用户数超过缓存容量",
    "slower than the goals": "比目标慢",
    "more devices than there are": "超过现有台数",
    "; it works with {}": "；可行的改动：{}",
    "{} + {} for prompts": "{} + {} 个预填充",
    "Take {} {}: {} server{} of {}, {} users each.": "用 {} 台 {}：{} 个服务器{}，布局 {}，每个 {} 用户。",
    "Serving {}": "{} 的服务",
    "prompts of {} tokens, answers of {} · {} configurations": "提示 {} token，回答 {} token · {} 种配置",
    "90 % interval {}": "90 % 区间 {}",
    "{}, all servers busy": "{}，所有服务器满载",
    "{}, {} users": "{}，{} 用户",
    "{} tokens/s": "{} token/s",
    "{} tokens": "{} token",
}
"""Of serving."""

BASIS: Mapping[str, str] = {
    "arithmetic": "计算",
    "communication between devices": "设备间通信",
    "copies between host and device": "主机与设备间的拷贝",
    "waiting for the host": "等待主机",
    "fixed cost per operation": "每次操作的固定开销",
    "far below every known roof": "远低于所有屋顶",
    "strong": "强",
    "weak": "弱",
    "parameters fitted for {}": "参数：为 {} 拟合",
    "parameters assumed for {}: {}": "参数：为 {} 假设：{}",
    "parameters {}": "参数：{}",
    "the {} family": "{} 系列",
    "other devices": "其他设备",
    "sustained clock of {} by its {} W, a law fitted to all GPUs": (
        "{} 的持续频率由其 {} W 得出（对所有 GPU 拟合的规律）"
    ),
    "capped at {} of {} W: arithmetic takes {} of its time alone longer": "功率限制为 {1} W 的 {0}：计算时间延长 {2}",
    "kernels: {}": "内核：{}",
    "{} products measured on {}": "在 {1} 上实测 {0} 个矩阵乘",
    "{} products measured here": "在此实测 {} 个矩阵乘",
    "{} expert layers measured on {}": "在 {1} 上实测 {0} 个专家层",
    "{} measured on {}": "{}：实测于 {}",
    "{} measured here": "{}：在此实测",
    "attention forward": "注意力前向",
    "attention backward": "注意力反向",
    " (heads of {}, windows of {}, causal: {})": "（头宽 {}，窗口 {}，因果：{}）",
    "{}: the share of its roofs that is reached on {}": "{}：按 {} 上达到的屋顶占比",
    "{}: assumed shares of the roofs of {}": "{}：按 {} 的屋顶占比假设",
    ", on their share of {}'s own {} peak and bandwidth": "，按 {} 自身 {} 峰值与带宽的占比",
    "nobody measured its products: {} of {}'s {} peak, {}": "没有人测过其矩阵乘：按 {1} 的 {2} 峰值的 {0}，{3}",
    "assumed: {} of {}'s {} peak, as nobody measured experts like these": (
        "假设：{1} 的 {2} 峰值的 {0}，没有人测过这样的专家"
    ),
    "flash-1 attention {}: assumed to take {} times as long as {}": "flash-1 注意力 {}：假设时间为 {2} 的 {1} 倍",
    "{} has no {} peak: that of {}": "{} 没有 {} 峰值：用 {} 的",
    "{} peak ({} outside linear layers) and memory: datasheet": "{} 峰值（线性层之外 {}）与显存：数据手册",
    "memory interval: published figures, each source left out in turn": "显存区间：公开数据，逐个来源留出",
    "interval: published runs, each predicted by a fit without its source": (
        "区间：公开的训练，每个由不含其来源的拟合预测"
    ),
    "software not fitted": "软件未拟合",
    "device not fitted": "设备未拟合",
    "network not stated": "网络未说明",
    "recompute not stated": "重算未说明",
    "kernels not measured": "内核未实测",
    "update on the host": "在主机上更新",
    "{}: wider": "{}，因此更宽",
    "context ranks: layers without attention change between tokens and channels, all to all": (
        "上下文进程：无注意力的层在按 token 与按通道划分之间以 all-to-all 转换"
    ),
    "experts are spread evenly, and chosen equally often": "专家均匀分布，被选次数相同",
    "latency between nodes: {} (assumed, the network has no file)": "节点间延迟：{}（假设，网络没有文件）",
    "latency inside a node: {} (assumed, the link has no file)": "节点内延迟：{}（假设，链路没有文件）",
    "link to the host: {}, PCIe 4.0 x16 (assumed; matters for offload)": (
        "到主机的链路：{}，PCIe 4.0 x16（假设；影响卸载）"
    ),
    (
        "network between nodes: {} Gb/s for all {} devices of a node (assumed, no rate is known: from 1/{} to"
        " {} times as much)"
    ): "节点间网络：一个节点的 {1} 台共 {0} Gb/s（假设，速率未知：1/{2} 至 {3} 倍）",
    "host memory {} a device (assumed)": "每台主机内存 {}（假设）",
    ", drives {} a device (assumed)": "，每台硬盘 {}（假设）",
    "offload: {}": "卸载：{}",
    "; five published steps with an optimizer on the host took 0.7 to 1.8 times as long as predicted": (
        "；五个优化器在主机上的公开单步为预测的 0.7 至 1.8 倍"
    ),
    "tensor ranks share {} of the layers' weights, as its class plans": "张量进程分担层权重的 {}，按其类的设计",
    "; between them tokens are whole on each": "；其间每个进程有完整的 token",
    "{} bridges join every {} cards, others talk over PCIe (assumed: not all boxes have them)": (
        "{} 桥连接每 {} 张卡，其余经 PCIe（假设：并非所有机器都有）"
    ),
}
"""What predictions rest on."""

NOTES: Mapping[str, str] = {
    "The smallest, the cheapest and the fastest that keep to what was asked; where none does, the nearest.": (
        "满足要求的最小、最便宜与最快的；都不满足时，最接近的。"
    ),
    (
        "The fastest layout of each family of degrees, through the event engine. tp, cp, pp, dp, ep: tensor, "
        "context, pipeline, data and expert parallel; vp: chunks a stage; mb: sequences of a micro-batch; "
        "degrees of 1 are left out."
    ): (
        "每组并行度中最快的布局，由事件引擎得出。tp、cp、pp、dp、ep：张量、上下文、流水线、数据与专"
        "家并行；vp：每级块数；mb：微批的序列数；为 1 的不显示。"
    ),
    (
        "Strong: the same global batch on all counts. Weak: a global batch in proportion. At each count the "
        "best layout, by the closed form."
    ): "强扩展：全局批不变。弱扩展：全局批按比例。每个台数取闭式计算的最佳布局。",
    "Of memory and limits, the example is the layout that was nearest to fitting.": (
        "显存与限制的例子是最接近放得下的布局。"
    ),
}
"""Of pages' templates."""
