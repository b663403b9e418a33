"""A patient's images through nnU-Net or MONAI with random weights, as a whole process.

    python benchmarks/ways/peer_patient.py nnunet|monai make FOLDER --dwi=... --adc=...
    python benchmarks/ways/peer_patient.py nnunet|monai predict FOLDER

For a Python that has torch, nnunetv2 and monai. ``make`` writes weights and images, ``predict`` is
what is timed: images from disk, network, mask to disk. No registration, no page. nnU-Net's plan is
written by hand after its planner's rules for images of this size; speed does not hang on weights.
"""

import argparse
import json
import shutil
from pathlib import Path

SPACING_MM = (2.0, 2.0, 2.0)
# Ours computes 60 slices of 80 x 104 voxels in windows of 16 slices at stride 4.
PATCH = (80, 112, 112)
MONAI_SHAPE, MONAI_WINDOW, MONAI_OVERLAP, MONAI_NETWORKS = (128, 128, 60), (128, 128, 16), 0.75, 5
FILTERS = (8, 16, 32, 64)


def main() -> None:
    """Make or predict."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=["nnunet", "monai"])
    parser.add_argument("task", choices=["make", "predict"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dwi", type=Path)
    parser.add_argument("--adc", type=Path)
    given = parser.parse_args()
    if given.task == "make":
        images = given.folder / "images"
        images.mkdir(parents=True)
        for number, path in enumerate((given.dwi, given.adc)):
            shutil.copy(path, images / f"patient_{number:04d}.nii.gz")
    TASKS[given.peer, given.task](given.folder)


def make_nnunet(folder: Path) -> None:
    """The folder of a trained nnU-Net, with the weights it begins with."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    stages = 5
    configuration = {
        "data_identifier": "plan_3d", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": PATCH, "median_image_size_in_voxels": PATCH, "spacing": SPACING_MM,
        "normalization_schemes": ["ZScoreNormalization"] * 2, "use_mask_for_norm": [False] * 2,
        "batch_dice": True,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            "arch_kwargs": {
                "n_stages": stages, "features_per_stage": [32, 64, 128, 256, 320],
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3]] * stages,
                "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
                "n_conv_per_stage": [2] * stages, "n_conv_per_stage_decoder": [2] * (stages - 1),
                "conv_bias": True, "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None,
                "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
        },
    }  # fmt: skip
    for kind, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        configuration[f"resampling_fn_{kind}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{kind}_kwargs"] = {
            "is_seg": kind == "seg", "order": order, "order_z": 0, "force_separate_z": None,
        }  # fmt: skip
    whole = {
        "mean": 500.0, "median": 500.0, "std": 200.0, "min": 0.0, "max": 3000.0,
        "percentile_00_5": 10.0, "percentile_99_5": 2000.0,
    }  # fmt: skip
    plans = {
        "dataset_name": "Dataset001_Stroke", "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": SPACING_MM,
        "original_median_shape_after_transp": PATCH, "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner", "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": whole, "1": whole},
    }  # fmt: skip
    data = {
        "channel_names": {"0": "DWI", "1": "ADC"}, "labels": {"background": 0, "tissue": 1},
        "numTraining": 1, "file_ending": ".nii.gz",
    }  # fmt: skip
    model = folder / "model"
    (model / "fold_0").mkdir(parents=True)
    (model / "plans.json").write_text(json.dumps(plans))
    (model / "dataset.json").write_text(json.dumps(data))
    plan = PlansManager(plans)
    torch.manual_seed(0)
    network = nnUNetTrainer.build_network_architecture(
        plan, plan.get_configuration("3d_fullres"), 2, 2, enable_deep_supervision=False
    )
    checkpoint = {
        "trainer_name": "nnUNetTrainer", "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 1, 2), "network_weights": network.state_dict(),
    }  # fmt: skip
    torch.save(checkpoint, model / "fold_0" / "checkpoint_final.pth")


def predict_nnunet(folder: Path) -> None:
    """nnU-Net's own inference of one network, without mirroring."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False,
        device=torch.device("cpu"), allow_tqdm=False,
    )  # fmt: skip
    predictor.initialize_from_trained_model_folder(str(folder / "model"), use_folds=(0,))
    images = sorted(map(str, (folder / "images").iterdir()))
    reader = predictor.plans_manager.image_reader_writer_class()
    data, properties = reader.read_images(images)
    mask = predictor.predict_single_npy_array(data, properties)
    reader.write_seg(mask, str(folder / "mask.nii.gz"), properties)


def make_monai(folder: Path) -> None:
    """Weights of five networks."""
    import torch

    torch.manual_seed(0)
    weights = [_attention_unet().state_dict() for _ in range(MONAI_NETWORKS)]
    torch.save(weights, folder / "weights.pt")


def predict_monai(folder: Path) -> None:
    """MONAI's sliding window with five AttentionUnets, averaged."""
    import torch
    from monai.data import NibabelWriter
    from monai.inferers import sliding_window_inference
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        NormalizeIntensityd,
        Orientationd,
        ResizeWithPadOrCropd,
        Spacingd,
    )

    names = ["dwi", "adc"]
    read = Compose([
        LoadImaged(names), EnsureChannelFirstd(names), Orientationd(names, "RAS", labels=None),
        Spacingd(names, SPACING_MM), ResizeWithPadOrCropd(names, MONAI_SHAPE),
        NormalizeIntensityd(names, nonzero=True),
    ])  # fmt: skip
    files = sorted((folder / "images").iterdir())
    images = read(dict(zip(names, files, strict=True)))
    image = torch.cat([images["dwi"], images["adc"]])[None].as_tensor()
    with torch.inference_mode():
        total = torch.zeros((1, 1, *MONAI_SHAPE))
        for weights in torch.load(folder / "weights.pt"):
            network = _attention_unet()
            network.load_state_dict(weights)
            network.eval()
            total += torch.sigmoid(
                sliding_window_inference(image, MONAI_WINDOW, 4, network, MONAI_OVERLAP)
            )
    writer = NibabelWriter()
    writer.set_data_array((total / MONAI_NETWORKS >= 0.5)[0, 0], channel_dim=None)
    writer.set_metadata({"affine": images["dwi"].affine})
    writer.write(folder / "mask.nii.gz")


def _attention_unet():
    from monai.networks.nets import AttentionUnet

    return AttentionUnet(
        spatial_dims=3, in_channels=2, out_channels=1, channels=FILTERS,
        strides=(2,) * (len(FILTERS) - 1),
    )  # fmt: skip


TASKS = {
    ("nnunet", "make"): make_nnunet,
    ("nnunet", "predict"): predict_nnunet,
    ("monai", "make"): make_monai,
    ("monai", "predict"): predict_monai,
}

if __name__ == "__main__":
    main()
