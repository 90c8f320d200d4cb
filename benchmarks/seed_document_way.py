"""The seed document's analysis as it was written: one image at a time, everything of each."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from insightface.app import FaceAnalysis
from PIL import Image


class SeedDocumentQualityAssessment:
    """The seed document's class; only the pack's folder and the provider are parameters."""

    def __init__(self, pack: Path, provider: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.face_detector = FaceAnalysis(name=str(pack), providers=[provider])
            self.face_detector.prepare(ctx_id=0, det_size=(640, 640))

    def calculate_sharpness(self, image_path: str) -> float:
        """Calculate Laplacian variance (sharpness)."""
        image = cv2.imread(image_path)
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        laplacian = cv2.Laplacian(gray, cv2.CV_64F)
        return laplacian.var()

    def calculate_contrast(self, image_path: str) -> float:
        """Calculate standard deviation (contrast)."""
        image = cv2.imread(image_path)
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        return gray.std()

    def detect_faces(self, image_path: str) -> list[Any]:
        """Get faces and their confidence."""
        image = cv2.imread(image_path)
        return self.face_detector.get(image)

    def score_quality(self, image_path: str) -> dict[str, Any]:
        """Calculate combined quality score."""
        sharpness = self.calculate_sharpness(image_path)
        if sharpness < 100:
            sharpness_score = 0.0
        elif sharpness < 200:
            sharpness_score = (sharpness - 100) / 100 * 0.4
        elif sharpness < 400:
            sharpness_score = 0.4 + (sharpness - 200) / 200 * 0.4
        else:
            sharpness_score = min(0.8 + (sharpness - 400) / 200 * 0.2, 1.0)
        contrast = self.calculate_contrast(image_path)
        if contrast < 20:
            contrast_score = 0.0
        elif contrast < 50:
            contrast_score = (contrast - 20) / 30 * 0.4
        elif contrast < 100:
            contrast_score = 0.4 + (contrast - 50) / 50 * 0.6
        else:
            contrast_score = min(1.0, 1.0 + (contrast - 100) / 100 * 0.1)
        faces = self.detect_faces(image_path)
        if len(faces) == 1:
            face_confidence = faces[0].det_score
            if face_confidence < 0.85:
                confidence_score = 0.0
            elif face_confidence < 0.90:
                confidence_score = (face_confidence - 0.85) / 0.05 * 0.4
            elif face_confidence < 0.95:
                confidence_score = 0.4 + (face_confidence - 0.90) / 0.05 * 0.4
            else:
                confidence_score = min(0.8 + (face_confidence - 0.95) / 0.05 * 0.2, 1.0)
        else:
            confidence_score = 0.0
        quality = 0.5 * sharpness_score + 0.3 * contrast_score + 0.2 * confidence_score
        return {"quality": quality, "face_detected": len(faces) == 1}


def analyse(
    paths: list[Path], assessment: SeedDocumentQualityAssessment, clip: Any
) -> dict[str, Any]:
    """Score every image, then embed every image, one after the other.

    Args:
        paths: The images.
        assessment: Loaded.
        clip: ``(model, transform, device)`` of open_clip, loaded.
    """
    results = [assessment.score_quality(str(path)) for path in paths]
    model, transform, device = clip
    vectors = []
    with torch.no_grad():
        for path in paths:
            tensor = transform(Image.open(path)).unsqueeze(0).to(device)
            vector = model.encode_image(tensor)
            vectors.append((vector / vector.norm(dim=-1, keepdim=True)).cpu().numpy())
    valid = [r["face_detected"] and r["quality"] >= 0.74 for r in results]
    return {
        "faces": int(sum(r["face_detected"] for r in results)),
        "kept": int(sum(valid)),
        "embeddings": np.concatenate(vectors),
    }
