// SPDX-License-Identifier: Apache-2.0
// What integration/report/arena_page.cpp wrote.

const report = JSON.parse(document.getElementById("spillway-data").textContent);
