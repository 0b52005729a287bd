"""The built-in plugins: name -> ``"module:Class"``. Listing them imports nothing heavy."""

from __future__ import annotations

from avloc import hookimpl

_HERE = "avloc_plugins"


@hookimpl
def avloc_encoders() -> dict[str, str]:
    encoders = f"{_HERE}.encoders"
    return {
        "tiny": f"{encoders}.tiny:Tiny",
        "audioclip": f"{encoders}.audioclip.encoder:AudioCLIP",
        "wav2clip": f"{encoders}.wav2clip:Wav2CLIP",
        "timm_resnet": f"{encoders}.timm_resnet:TimmResNet",
        "conse": f"{encoders}.conse:ConSE",
    }


@hookimpl
def avloc_methods() -> dict[str, str]:
    methods = f"{_HERE}.methods"
    return {
        "alignment": f"{methods}.alignment:Alignment",
        "attention10k": f"{methods}.attention10k:Attention10k",
        "audioclip": f"{methods}.audioclip:AudioCLIP",
        "avgn": f"{methods}.avgn:AVGN",
        "coarse_to_fine": f"{methods}.coarse_to_fine:CoarseToFine",
        "dsol": f"{methods}.dsol:DSOL",
        "ezvsl": f"{methods}.ezvsl:EZVSL",
        "fnac": f"{methods}.fnac:FNAC",
        "lvs": f"{methods}.lvs:LVS",
        "marginnce": f"{methods}.marginnce:MarginNCE",
        "mix_and_localize": f"{methods}.mix_and_localize:MixAndLocalize",
        "ots": f"{methods}.ots:OTS",
        "slavc": f"{methods}.slavc:SLAVC",
        "tvsl": f"{methods}.tvsl.method:TVSL",
        "wav2clip": f"{methods}.wav2clip:Wav2CLIP",
        "center": f"{methods}.controls:Center",
        "whole": f"{methods}.controls:Whole",
        "random": f"{methods}.controls:Random",
        "saliency": f"{methods}.controls:Saliency",
        "text_only": f"{methods}.controls:TextOnly",
    }


@hookimpl
def avloc_datasets() -> dict[str, str]:
    datasets = f"{_HERE}.datasets"
    return {
        "folder": f"{datasets}.folder:Folder",
        "toybox_single": f"{datasets}.toybox:ToyboxSingle",
        "toybox_duet": f"{datasets}.toybox:ToyboxDuet",
        "toybox_scene": f"{datasets}.toybox:ToyboxScene",
        "vggsound_single": f"{datasets}.vggsound:VGGSoundSingle",
        "vggsound_duet": f"{datasets}.vggsound:VGGSoundDuet",
        "vggsound_instruments": f"{datasets}.vggsound_instruments:VGGSoundInstruments",
        "vggsound_instruments_duet": f"{datasets}.vggsound_instruments:VGGSoundInstrumentsDuet",
        "music_solo": f"{datasets}.music:MUSICSolo",
        "music_duet": f"{datasets}.music:MUSICDuet",
        "negatives": f"{datasets}.derived:Negatives",
        "side_by_side": f"{datasets}.derived:SideBySide",
        "validation_clips": f"{datasets}.derived:Validation",
        "zero_shot": f"{datasets}.derived:ZeroShot",
    }


@hookimpl
def avloc_metrics() -> dict[str, str]:
    metrics = f"{_HERE}.metrics"
    return {
        "pixel_ap": f"{metrics}.average_precision:PixelAP",
        "cap": f"{metrics}.average_precision:CAP",
        "permutation_ap": f"{metrics}.average_precision:PermutationAP",
        "piap_swapped": f"{metrics}.average_precision:SwappedPIAP",
        "pixel_auroc": f"{metrics}.average_precision:PixelAUROC",
        "ciou_success": f"{metrics}.iou_success:CIoUSuccess",
        "ciou_mean": f"{metrics}.iou_success:CIoUMean",
        "auc": f"{metrics}.iou_success:AUC",
        "iou_smoothed": f"{metrics}.iou_success:IoUSmoothed",
        "interactive_ciou": f"{metrics}.iou_groups:InteractiveCIoU",
        "interactive_auc": f"{metrics}.iou_groups:InteractiveAUC",
        "clip_ciou_success": f"{metrics}.iou_groups:ClipCIoUSuccess",
        "clip_auc": f"{metrics}.iou_groups:ClipAUC",
        "ciou_best_threshold": f"{metrics}.iou_sweep:CIoUBestThreshold",
        "auc_best_threshold": f"{metrics}.iou_sweep:AUCBestThreshold",
        "extended_ap": f"{metrics}.iou_extended:ExtendedAP",
        "extended_f1": f"{metrics}.iou_extended:ExtendedF1",
        "extended_precision": f"{metrics}.iou_extended:ExtendedPrecision",
        "pia": f"{metrics}.iou_negatives:PIA",
        "pia_auc": f"{metrics}.iou_negatives:PIAAUC",
        "nsa": f"{metrics}.iou_negatives:NSA",
        "f_loc": f"{metrics}.iou_negatives:FLoc",
        "f_auc": f"{metrics}.iou_negatives:FAUC",
        "side_accuracy": f"{metrics}.side:SideAccuracy",
        "detection_f1": f"{metrics}.detection:DetectionF1",
    }
