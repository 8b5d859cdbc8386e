// SPDX-License-Identifier: Apache-2.0
// Draws the page once the data is unpacked, and again when the colour scheme changes.

function start() {
  drawHeader();
  drawFigures();
  startMemory();
  startLanes();
  startPeak();
  startHeat();
  startStalls();
  startTradeoff();
  startTable();
  drawFacts();
  redrawPlots();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    forgetColors();
    redrawPlots();
  });
  document.documentElement.dataset.ready = "yes";
}

start();
