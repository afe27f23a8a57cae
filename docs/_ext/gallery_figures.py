"""Figures of the gallery larger than in a journal."""


def enlarge(gallery_conf, fname):
    import matplotlib

    matplotlib.rcParams["figure.dpi"] = 150
