"""Raw DSC series -> Tmax and the other perfusion maps; numpy and scipy only."""
